// What the host calls: each stage goes to the function of filter.js. There is nothing here to change.

import * as plugin from "./filter.js";

// An exception is an orderly failure: the operator's on-fault speaks, nothing that was asked for takes effect, and the instance lives on.
function ask(answer, ...given) {
  try {
    return answer(...given);
  } catch (error) {
    throw String(error?.message ?? error);
  }
}

function asked(answer, given) {
  try {
    return { tag: "ok", val: answer(given) };
  } catch (error) {
    return { tag: "err", val: String(error?.message ?? error) };
  }
}

export const lifecycle = { init: () => ask(plugin.init) };
export const onConnect = { connect: () => ask(plugin.onConnect) };
export const onHelo = { helo: (name, esmtp) => ask(plugin.onHelo, name, esmtp) };
export const onMail = { mail: (sender) => ask(plugin.onMail, sender) };
export const onRcpt = { check: (recipient) => ask(plugin.onRcpt, recipient) };
export const onRcptBatch = { checkAll: (all) => all.map((recipient) => asked(plugin.onRcpt, recipient)) };
export const onData = { data: () => ask(plugin.onData) };
export const onHeaders = { headers: () => ask(plugin.onHeaders) };
export const onMessage = { message: () => ask(plugin.onMessage) };
export const onQueue = { enqueue: (id) => ask(plugin.onQueue, id) };
export const onTimer = { tick: () => plugin.onTimer() };
export const onCommand = { command: (name, argument) => ask(plugin.onCommand, name, argument) };
