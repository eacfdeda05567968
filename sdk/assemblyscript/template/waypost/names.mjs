// The names by which the host knows our exports are no identifiers, so the compiler cannot be told them: they are put in afterwards.

const NAMES = {
  lifecycle: "lifecycle@0.1.0#init",
  onConnect: "on-connect@0.1.0#connect",
  onHelo: "on-helo@0.1.0#helo",
  onMail: "on-mail@0.1.0#mail",
  onRcpt: "on-rcpt@0.1.0#check",
  onData: "on-data@0.1.0#data",
  onHeaders: "on-headers@0.1.0#headers",
  onMessage: "on-message@0.1.0#message",
  onQueue: "on-queue@0.1.0#enqueue",
  onTimer: "on-timer@0.1.0#tick",
};

export default class Names {
  afterCompile(module) {
    for (const [name, theirs] of Object.entries(NAMES)) {
      module.removeExport(name);
      module.addFunctionExport(`waypost/component/${name}`, `waypost:plugin/${theirs}`);
    }
  }
}
