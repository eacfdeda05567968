// Warns of mail that pretends: from outside, with a From that shows the name of one of our own people ("The Boss" <boss77@freemail.example>), or
// whose answers go to another domain than it came from. The subject gets a mark, the fact IMPOSTOR is stated, and a header field says why.
//
// Stage message. No grants. Settings:
//
//   [plugin.impostor.config]
//   people = ["Ada Lovelace"]          # names to protect
//   domains = ["example.org"]          # where they really write from
//   mark = "[Not from us] "            # in front of the subject; "" leaves it alone
//   weight = 3.0                       # of the fact

import message from "waypost:plugin/message@0.1.0";
import scores from "waypost:plugin/scores@0.1.0";
import { NEXT, registration, settings } from "./waypost.js";

let config, people, domains;

/** Called once. What is thrown here is read by an operator. */
export function init() {
  config = settings({ people: [], domains: [], mark: "[Not from us] ", weight: 3 });
  if (config.people.length > 0 && config.domains.length === 0) {
    throw new Error("people are named, but no domains: list the domains that they write from");
  }
  people = new Map(config.people.map((name) => [plain(name), name]));
  domains = config.domains.map((domain) => domain.toLowerCase());
  return registration("impostor", "0.1.0", { onlyInbound: true });
}

/** The message is complete and waits for its reply. */
export function onMessage() {
  const from = mailbox(message.header("From")[0] ?? "");
  if (isOurs(from.domain)) {
    return NEXT;
  }
  const reason = whyDoubtful(from, mailbox(message.header("Reply-To")[0] ?? ""));
  if (reason) {
    warn(reason);
  }
  return NEXT;
}

function whyDoubtful(from, replyTo) {
  const name = people.get(plain(from.name));
  if (name) {
    return `${name} does not write from ${from.domain}`;
  }
  if (replyTo.domain && isOurs(replyTo.domain)) {
    return `answers go to us at ${replyTo.domain}, the mail comes from ${from.domain}`;
  }
  return null;
}

// Edits take effect when this stage's answer is no failure.
function warn(reason) {
  scores.add("IMPOSTOR", config.weight, reason);
  message.addHeader("X-Impostor", reason);
  const subject = message.header("Subject")[0] ?? "";
  if (config.mark && !subject.startsWith(config.mark)) {
    message.removeHeader("Subject", null);
    message.addHeader("Subject", config.mark + subject);
  }
}

function isOurs(domain) {
  return domains.some((ours) => domain === ours || domain.endsWith("." + ours));
}

/** Letters alone, so that blanks, dots, case, accents and letters of double width do not make another name of it. */
function plain(name) {
  return name.normalize("NFKD").replace(/[^\p{L}]/gu, "").toLowerCase();
}

/** Name and domain of the first mailbox in a header field: `"Ada" <ada@example.org>` or `ada@example.org (Ada)`. */
function mailbox(field) {
  const angle = field.match(/^(.*)<([^<>]*)>/s);
  const address = angle ? angle[2] : field.replace(/\(.*\)/s, "").trim();
  const name = angle ? angle[1] : (field.match(/\((.*)\)/s)?.[1] ?? "");
  return { name: name.replace(/["\\]/g, ""), domain: address.slice(address.lastIndexOf("@") + 1).toLowerCase() };
}
