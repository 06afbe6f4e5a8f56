/**
 * A process that brings functions up and kills itself (SIGKILL) at the step whose number it is given; −1: never. Prints how many
 * steps there were. Arguments: host, step, then calls such as `bind=0000:01:00.0` and `sriov=0000:01:00.0,2`.
 */
import { processId, sendSignal } from "../../../ffi/mod.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { LinuxHost } from "../../../lib/host/linux_host.ts";

const [name = "", at = "-1", ...calls] = Deno.args;
const SIGKILL = 9;
let steps = 0;
const onStep = (step: string): void => {
  console.log(`${steps} ${step}`);
  if (steps++ === Number(at)) sendSignal(processId(), SIGKILL);
};
using host = name === "linux" ? new LinuxHost({ onStep }) : EmulatedHost.connect(name, { onStep });
for (const call of calls) {
  const [verb, operands = ""] = call.split("=");
  const [address = "", value] = operands.split(",");
  if (verb === "bind") host.bind(address, value === undefined ? {} : { driver: value });
  else host.setVfCount(address, Number(value));
}
console.log(`steps ${steps}`);
