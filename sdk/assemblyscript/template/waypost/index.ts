// Waypost's contract as AssemblyScript says it: the answers, and what the host can be asked. Functions that nobody calls are not in the
// component.

import { area, call, octetsAt, optionAt, putText, textAt, textsAt } from "./abi";

/** What a stage answers. */
export class Action {
  constructor(
    public kind: u8,
    public code: u16 = 0,
    public status: string = "",
    public text: string = "",
    public seconds: u32 = 0,
  ) {}

  /** No opinion: the next plugin is asked. */
  static next(): Action { return new Action(0); }
  /** Ends this stage's chain: no later plugin is asked. */
  static accept(): Action { return new Action(1); }
  /** Refuses for good: `Action.reject(550, "5.7.1", "…")`. */
  static reject(code: u16, status: string, text: string): Action { return new Action(2, code, status, text); }
  /** Asks the client to come back. */
  static tempfail(code: u16, status: string, text: string): Action { return new Action(3, code, status, text); }
  /** Accepts on the wire, and drops. */
  static discard(): Action { return new Action(4); }
  /** Holds the message for an operator. */
  static quarantine(reason: string): Action { return new Action(5, 0, "", reason); }
  /** Says this and closes. */
  static disconnect(code: u16, status: string, text: string): Action { return new Action(6, code, status, text); }
  /** Asks the client to come back after so many seconds. */
  static defer(seconds: u32): Action { return new Action(7, 0, "", "", seconds); }
  /** An orderly failure: the operator's on-fault speaks, and nothing that was asked for takes effect. */
  static fail(reason: string): Action { return new Action(255, 0, "", reason); }

  /** As the contract's `outcome`. */
  write(out: usize): void {
    const failed = this.kind == 255;
    store<u8>(out, failed ? 1 : 0);
    if (failed) return putText(out, 4, this.text);
    store<u8>(out + 4, this.kind);
    if (this.kind == 5) return putText(out, 8, this.text);
    if (this.kind == 7) return store<u32>(out + 8, this.seconds);
    if (this.code == 0) return;
    const status = this.status.split(".");
    store<u16>(out + 8, this.code);
    store<u8>(out + 10, <u8>parseInt(status[0]));
    store<u8>(out + 11, <u8>parseInt(status[1]));
    store<u16>(out + 12, <u16>parseInt(status[2]));
    putText(out, 16, this.text);
  }
}

/** What a plugin says of itself, and how it narrows what it is asked. */
export class Registration {
  onlyInbound: bool = false;
  onlyAuthenticated: bool = false;
  /** Skips larger messages, unless it is 0. */
  maxSize: u64 = 0;
  /** Why the plugin cannot run; an operator reads it. */
  mistake: string = "";

  constructor(public name: string, public version: string) {}

  write(out: usize): void {
    if (this.mistake.length > 0) {
      store<u8>(out, 1);
      return putText(out, 8, this.mistake);
    }
    memory.fill(out, 0, 64);
    putText(out, 8, this.name);
    putText(out, 16, this.version);
    store<u8>(out + 32, this.onlyInbound ? 1 : 0);
    store<u8>(out + 33, this.onlyAuthenticated ? 1 : 0);
    store<u8>(out + 40, this.maxSize == 0 ? 0 : 1);
    store<u64>(out + 48, this.maxSize);
  }
}

/** One recipient. */
export class Recipient {
  constructor(public address: string, public domain: string) {}
}

// Session.

@external("waypost:plugin/session@0.1.0", "client-ip")
declare function sessionClientIp(out: usize): void;
@external("waypost:plugin/session@0.1.0", "helo")
declare function sessionHelo(out: usize): void;
@external("waypost:plugin/session@0.1.0", "ptr-name")
declare function sessionPtrName(out: usize): void;
@external("waypost:plugin/session@0.1.0", "auth-user")
declare function sessionAuthUser(out: usize): void;

/** The client's address. */
export function clientIp(): string { sessionClientIp(call()); return textAt(area, 0); }
/** The name that the client gave itself. */
export function helo(): string { sessionHelo(call()); return textAt(area, 0); }
/** The client's name as DNS confirms it both ways, or "". */
export function ptrName(): string { sessionPtrName(call()); return optionAt(area, 0); }
/** Who has logged in, or "". */
export function authUser(): string { sessionAuthUser(call()); return optionAt(area, 0); }

// Envelope and message.

@external("waypost:plugin/envelope@0.1.0", "sender")
declare function envelopeSender(out: usize): void;
@external("waypost:plugin/message@0.1.0", "header")
declare function messageHeader(name: usize, units: i32, out: usize): void;
@external("waypost:plugin/message@0.1.0", "read")
declare function messageRead(offset: u64, length: u32, out: usize): void;
@external("waypost:plugin/message@0.1.0", "add-header")
declare function messageAddHeader(name: usize, units: i32, value: usize, valueUnits: i32): void;
@external("waypost:plugin/message@0.1.0", "remove-header")
declare function messageRemoveHeader(name: usize, units: i32, some: i32, nth: i32): void;

/** The envelope's sender; "" is the null sender. */
export function sender(): string { envelopeSender(call()); return textAt(area, 0); }
/** Every field of that name, unfolded. */
export function header(name: string): string[] {
  messageHeader(changetype<usize>(name), name.length, call());
  return textsAt(area, 0);
}
/** Reads the message as it came. Less than length is the end. */
export function read(offset: u64, length: u32): Uint8Array { messageRead(offset, length, call()); return octetsAt(area, 0); }
/** Puts a field at the end of the header block. Edits take effect when the stage's answer is no failure. */
export function addHeader(name: string, value: string): void {
  messageAddHeader(changetype<usize>(name), name.length, changetype<usize>(value), value.length);
}
/** Removes every field of that name. */
export function removeHeader(name: string): void { messageRemoveHeader(changetype<usize>(name), name.length, 0, 0); }

// Facts.

@external("waypost:plugin/scores@0.1.0", "add")
declare function scoresAdd(symbol: usize, units: i32, weight: f64, some: i32, detail: usize, detailUnits: i32): void;
@external("waypost:plugin/scores@0.1.0", "symbols")
declare function scoresSymbols(out: usize): void;

/** States a fact, for spam-score and the operator to weigh. */
export function addFact(symbol: string, weight: f64, detail: string): void {
  scoresAdd(changetype<usize>(symbol), symbol.length, weight, detail.length > 0 ? 1 : 0, changetype<usize>(detail), detail.length);
}
/** Whether a plugin before this one, or this one, stated the fact. */
export function hasFact(symbol: string): bool {
  scoresSymbols(call());
  const first: usize = load<u32>(area), count = load<u32>(area + 4);
  for (let i: u32 = 0; i < count; i++) {
    if (textAt(first + 16 * i, 0) == symbol) return true;
  }
  return false;
}

// DNS: grant dns.

/** Record types. */
export enum Type { A, AAAA, MX, TXT, PTR, TLSA, CNAME, NS, SRV }
/** Why there are no records. */
export enum Failure { None = -1, NxDomain, NoData, ServFail, Timeout, Refused, Budget }

export class Query {
  constructor(public name: string, public type: Type) {}
}
export class Answer {
  constructor(public records: string[], public failure: Failure) {}
  get failed(): bool { return this.failure > Failure.NoData; }
}

@external("waypost:plugin/dns@0.1.0", "lookup-many")
declare function dnsLookupMany(queries: usize, count: i32, out: usize): void;

/** Asks all of them at once. Records are as in a zone file: an MX is "10 mx.example.com". */
export function lookup(queries: Query[]): Answer[] {
  const block = heap.alloc(12 * queries.length);
  for (let i = 0; i < queries.length; i++) {
    putText(block + 12 * i, 0, queries[i].name);
    store<u8>(block + 12 * i + 8, <u8>queries[i].type);
  }
  dnsLookupMany(block, queries.length, call());
  heap.free(block);
  const first: usize = load<u32>(area), answers = new Array<Answer>(load<u32>(area + 4));
  for (let i = 0; i < answers.length; i++) {
    const at = first + 20 * i;
    const ok = load<u8>(at) == 0;
    answers[i] = ok ? new Answer(textsAt(at, 4), Failure.None) : new Answer([], load<u8>(at + 4));
  }
  return answers;
}

// Key-value store and tables: grants kv and tables.

@external("waypost:plugin/kv@0.1.0", "incr")
declare function kvIncr(key: usize, length: i32, delta: i64, some: i32, ttl: u32): i64;
@external("waypost:plugin/tables@0.1.0", "lookup")
declare function tablesLookup(table: usize, units: i32, key: usize, keyUnits: i32, out: usize): void;

/** Adds to a counter of this plugin's own and gives its value; it is gone so many seconds after the last addition. */
export function increment(key: string, delta: i64, ttl: u32): i64 {
  const octets = String.UTF8.encode(key);
  return kvIncr(changetype<usize>(octets), octets.byteLength, delta, 1, ttl);
}
/** Looks a key up in a table of the configuration; "" if it is not there. */
export function table(name: string, key: string): string {
  tablesLookup(changetype<usize>(name), name.length, changetype<usize>(key), key.length, call());
  return optionAt(area, 0);
}

// Environment.

@external("waypost:plugin/env@0.1.0", "log")
declare function envLog(level: i32, text: usize, units: i32): void;
@external("waypost:plugin/env@0.1.0", "config")
declare function envConfig(out: usize): void;
@external("waypost:plugin/env@0.1.0", "now-ms")
declare function envNowMs(): u64;

/** Writes a line to the server's log. */
export function log(line: string): void { envLog(2, changetype<usize>(line), line.length); }
/** Milliseconds since 1970; stands still during a call. */
export function nowMs(): u64 { return envNowMs(); }

/** The plugin's own settings, as far as they are flat: a text, a number or a truth value for each name. */
export function settings(): Map<string, string> {
  envConfig(call());
  const json = textAt(area, 0), found = new Map<string, string>();
  let at = 0;
  while (at < json.length) {
    const open = json.indexOf('"', at);
    if (open < 0) break;
    const close = json.indexOf('"', open + 1);
    let from = json.indexOf(":", close) + 1;
    while (json.charCodeAt(from) == 32) from++;
    let to = from;
    if (json.charCodeAt(from) == 34) {
      to = ++from;
      while (to < json.length && json.charCodeAt(to) != 34) to += json.charCodeAt(to) == 92 ? 2 : 1;
      at = to + 1;
    } else {
      while (to < json.length && json.charCodeAt(to) != 44 && json.charCodeAt(to) != 125) to++;
      at = to;
    }
    found.set(json.substring(open + 1, close), json.substring(from, to).trim().replaceAll('\\"', '"').replaceAll("\\\\", "\\"));
  }
  return found;
}
