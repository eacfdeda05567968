// Waypost's contract as JavaScript says it: the answers, the settings, the log. The host's interfaces are modules:
// `import message from "waypost:plugin/message@0.1.0"`, and so on for each that world.wit imports; their functions stand in wit/host.wit,
// where a name like `client-ip` is clientIp here, and nothing is null.

import env from "waypost:plugin/env@0.1.0";
import scores from "waypost:plugin/scores@0.1.0";

/** No opinion: the next plugin is asked. */
export const NEXT = { tag: "next" };
/** Ends this stage's chain: no later plugin is asked. */
export const ACCEPT = { tag: "accept" };
/** Accepts on the wire, and drops. */
export const DISCARD = { tag: "discard" };

const answer = (tag, code, status, text) => ({ tag, val: { code, enhanced: status.split(".").map(Number), text } });

/** Refuses for good: `reject(550, "5.7.1", "…")`. */
export const reject = (code, status, text) => answer("reject", code, status, text);
/** Asks the client to come back: `tempfail(450, "4.7.1", "…")`. */
export const tempfail = (code, status, text) => answer("tempfail", code, status, text);
/** Says this and closes. */
export const disconnect = (code, status, text) => answer("disconnect", code, status, text);
/** Holds the message for an operator. */
export const quarantine = (reason) => ({ tag: "quarantine", val: reason });
/** Asks the client to come back after so many seconds. */
export const defer = (seconds) => ({ tag: "defer", val: seconds });

/** What a plugin says of itself, and how it narrows what it is asked: rcptDomains, onlyInbound, onlyAuthenticated, maxSize. */
export function registration(name, version, narrow = {}) {
  const everything = { rcptDomains: [], onlyInbound: false, onlyAuthenticated: false, maxSize: null };
  const body = { none: false, headers: false, preview: false, full: false };
  return { name, version, ...everything, ...narrow, body, previewBytes: 0 };
}

/** The plugin's section of the configuration, over the defaults. A setting that has no default is a mistake. */
export function settings(defaults) {
  const given = JSON.parse(env.config() || "{}");
  for (const name of Object.keys(given)) {
    if (!(name in defaults)) {
      throw new Error(`there is no setting \`${name}\`; there are ${Object.keys(defaults).join(", ")}`);
    }
  }
  return { ...defaults, ...given };
}

/** Writes a line to the server's log: level is trace, debug, info, warn or error. */
export const log = (text, level = "info") => env.log(level, text);

/** Whether a plugin before this one, or this one, stated the fact. */
export const fact = (symbol) => scores.symbols().some(([name]) => name === symbol);
