// The same as main.go, as far as the AssemblyScript layer goes.

import { Action, Query, Recipient, Registration, Type, addFact, addHeader, clientIp, hasFact, header, helo, increment, log, lookup, nowMs, ptrName, authUser, read, removeHeader, sender, settings, table } from "./waypost";

let words = "";

export function init(): Registration {
  const registration = new Registration("conformance", "1");
  registration.maxSize = 1 << 20;
  const given = settings();
  words = given.get("text") + " " + given.get("number") + " " + given.get("truth");
  return registration;
}

export function onMail(sender: string): Action {
  if (sender == "defer@client.example") return Action.tempfail(451, "4.3.250", "not now");
  if (sender == "fail@client.example") return Action.fail("as was wished");
  return Action.next();
}

export function onRcpt(recipient: Recipient): Action {
  if (recipient.address == "bob@waypost.test") return Action.reject(553, "5.1.250", "not him");
  return Action.next();
}

function say(text: string): void { addHeader("X-Conformance", text); }

export function onMessage(): Action {
  say("settings " + words);
  say("session " + clientIp() + " " + helo() + " [" + ptrName() + authUser() + "]");
  const subject = header("subject");
  say("message " + sender() + " " + subject.length.toString() + " " + subject[0] + " " + header("None").length.toString());
  say("read " + String.UTF8.decode(read(0, 5).buffer));
  addFact("ONE", 1.5, "why");
  addFact("TWO", -0.25, "");
  say("facts " + hasFact("ONE").toString() + " " + hasFact("THREE").toString());
  say("kv " + increment("n", 5, 60).toString() + " " + increment("n", -7, 60).toString());
  const answers = lookup([new Query("good.example", Type.MX), new Query("absent.example", Type.A), new Query("good.example", Type.A)]);
  say("dns " + answers[0].records.join(",") + " " + answers[1].failure.toString() + " " + answers[2].records.join(","));
  say("table " + table("people", "ann") + " [" + table("people", "joe") + "]");
  say("env " + (nowMs() > 1000000000000).toString());
  removeHeader("X-Old");
  log("conformance");
  return Action.next();
}
