// Refuses mail whose sender's domain cannot get an answer: it does not exist, says that it takes no mail (RFC 7505), or has neither a mail
// host nor an address. All questions are asked at once.
//
// Stage mail. Grant dns. Settings:
//
//   [plugin.sender-domain.config]
//   strict = true       # while DNS fails, ask the client to come back; false lets it pass

import { Action, Query, Registration, Type, Failure, addFact, lookup, settings } from "./waypost";

let strict = true;

/** Called once. A mistake is read by an operator. */
export function init(): Registration {
  const registration = new Registration("sender-domain", "0.1.0");
  registration.onlyInbound = true;
  const given = settings(), names = given.keys();
  for (let i = 0; i < names.length; i++) {
    if (names[i] != "strict") registration.mistake = "there is no setting `" + names[i] + "`; there is only strict";
  }
  if (given.has("strict")) strict = given.get("strict") == "true";
  return registration;
}

/** MAIL was said; an empty sender is `<>`. */
export function onMail(sender: string): Action {
  const domain = sender.substring(sender.lastIndexOf("@") + 1).toLowerCase();
  if (domain.length == 0 || domain.startsWith("[")) return Action.next();
  const answers = lookup([new Query(domain, Type.MX), new Query(domain, Type.A), new Query(domain, Type.AAAA)]);
  const mx = answers[0];
  if (mx.records.length > 0) return judgeHosts(domain, mx.records);
  if (mx.failure == Failure.NxDomain) return refuse(domain, "does not exist");
  if (answers[1].records.length > 0 || answers[2].records.length > 0) return Action.next();
  if (mx.failed || answers[1].failed || answers[2].failed) {
    return strict ? Action.tempfail(451, "4.4.3", "DNS does not answer about " + domain + ", try again later") : Action.next();
  }
  return refuse(domain, "has neither a mail host nor an address");
}

function judgeHosts(domain: string, records: string[]): Action {
  const host = records[0].substring(records[0].indexOf(" ") + 1);
  if (records.length == 1 && (host == "." || host == "")) {
    return Action.reject(550, "5.7.27", "The sender's domain " + domain + " says that it takes no mail");
  }
  return Action.next();
}

function refuse(domain: string, why: string): Action {
  addFact("SENDER_DOMAIN", 2.0, why);
  return Action.reject(550, "5.1.8", "The sender's domain " + domain + " " + why);
}
