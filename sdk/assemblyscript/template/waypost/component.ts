// What the host calls: each stage goes to the function of filter.ts, if there is one. There is nothing here to change.

import * as plugin from "../filter";
import { Action, Recipient } from "./index";
import { area, enter, forget, text } from "./abi";

export { cabi_realloc } from "./abi";

function answer(action: Action): usize {
  action.write(area);
  forget();
  return area;
}

export function lifecycle(): usize {
  enter();
  plugin.init().write(area);
  return area;
}

export function onConnect(): usize {
  if (isDefined(plugin.onConnect)) {
    enter();
    return answer(plugin.onConnect());
  }
  return 0;
}

export function onHelo(name: usize, units: usize, extended: bool): usize {
  if (isDefined(plugin.onHelo)) {
    enter();
    return answer(plugin.onHelo(text(name, units), extended));
  }
  return 0;
}

export function onMail(sender: usize, units: usize): usize {
  if (isDefined(plugin.onMail)) {
    enter();
    return answer(plugin.onMail(text(sender, units)));
  }
  return 0;
}

export function onRcpt(
  address: usize, addressUnits: usize, domain: usize, domainUnits: usize,
  orcpt: i32, orcptAt: usize, orcptUnits: usize, notify: i32, notifyAt: usize, notifyUnits: usize,
): usize {
  if (isDefined(plugin.onRcpt)) {
    enter();
    return answer(plugin.onRcpt(new Recipient(text(address, addressUnits), text(domain, domainUnits))));
  }
  return 0;
}

export function onData(): usize {
  if (isDefined(plugin.onData)) {
    enter();
    return answer(plugin.onData());
  }
  return 0;
}

export function onHeaders(): usize {
  if (isDefined(plugin.onHeaders)) {
    enter();
    return answer(plugin.onHeaders());
  }
  return 0;
}

export function onMessage(): usize {
  if (isDefined(plugin.onMessage)) {
    enter();
    return answer(plugin.onMessage());
  }
  return 0;
}

export function onQueue(id: usize, units: usize): usize {
  if (isDefined(plugin.onQueue)) {
    enter();
    return answer(plugin.onQueue(text(id, units)));
  }
  return 0;
}

export function onTimer(): void {
  if (isDefined(plugin.onTimer)) {
    enter();
    plugin.onTimer();
  }
}
