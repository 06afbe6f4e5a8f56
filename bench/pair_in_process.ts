/**
 * Two network functions and their devices in one thread: the whole way of a frame, without a socket or another process in it.
 *
 * @module
 */
import { VirtioNet } from "../drivers/net/virtio_net.ts";
import { EmulatedMachine } from "../lib/emulation/machine.ts";
import { readTopology } from "../lib/emulation/mod.ts";
import { createVirtioModels } from "../lib/emulation/virtio/models.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import { FramePair } from "./frame_pair.ts";
import { InProcessFunction } from "./in_process_function.ts";

/** More buffers than ever come at once, and a fair share for each port. */
const BUDGET = 256;

/** Two functions of a machine without sockets, opened, on one switch. */
export async function pairInProcess(stack: AsyncDisposableStack): Promise<FramePair> {
  const functions = ["0000:01:00.0", "0000:02:00.0"].map((address) => ({
    address,
    kind: "virtio-net",
    totalVfs: 0,
    driver: null,
  }));
  const machine = stack.use(
    new EmulatedMachine({
      topology: readTopology({ functions }),
      models: createVirtioModels(),
      onViolation: ({ function: where, rule, message }) => {
        throw new DeviceError(`${message} (${rule})`, { function: where });
      },
    }),
  );
  const opened: VirtioNet[] = [];
  for (const { address } of functions) {
    const device = stack.use(new InProcessFunction(machine.device(address)));
    const transport = stack.use(openTransport(device));
    opened.push(stack.use(await VirtioNet.open(transport, { interrupts: "none", wait: "poll" })));
  }
  const first = machine.device(functions[0]!.address).behaviour;
  const second = machine.device(functions[1]!.address).behaviour;
  return new FramePair(opened[0]!, opened[1]!, () => {
    first.poll(BUDGET);
    second.poll(BUDGET);
  });
}
