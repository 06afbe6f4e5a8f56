/** Bring-ups of virtio-net and of the 82576, recorded and replayed: for tests of traces on the embedded host and in the guest. */
import { Igb } from "../../../drivers/net/igb/igb.ts";
import { IGB_REGISTERS } from "../../../drivers/net/igb/registers.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { replaceFile } from "../../../ffi/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { traced, traceHeader, traceLine } from "../../../lib/trace/mod.ts";
import { instead } from "../../../lib/trace/instead.ts";
import { REGION, type VfioDevice } from "../../../lib/vfio/mod.ts";
import { openTransport } from "../../../lib/virtio/mod.ts";
import { startCli } from "./run_cli.ts";

/** A guest reaches no registry. */
const PERMISSIONS = ["--cached-only", "--allow-ffi", "--allow-env", "--allow-sys"];

/** A mistake of a driver: the same device, reached with it. */
export type Mistake = (device: VfioDevice) => VfioDevice;

/** Up and down again; closes the device. @returns its MAC address */
export type BringUp = (device: VfioDevice) => Promise<string>;

/** Of virtio-net. */
export async function bringUp(device: VfioDevice): Promise<string> {
  using opened = device;
  using transport = openTransport(opened);
  await using net = await VirtioNet.open(transport, { interrupts: "msix" });
  return net.mac.toString();
}

/** Of the 82576's PF; polled, since nobody knows when an interrupt comes. */
export async function bringUpIgb(device: VfioDevice): Promise<string> {
  using opened = device;
  await using net = await Igb.open(opened, { interrupts: "none" });
  return net.mac.toString();
}

/** Records a bring-up in a file. A driver with a mistake ends as it may. */
export async function recordBringUp(
  device: VfioDevice,
  path: string,
  mistake?: Mistake,
  up: BringUp = bringUp,
): Promise<void> {
  let text = traceHeader();
  const recorded = traced(device, (record) => void (text += traceLine(record)));
  await up(mistake?.(recorded) ?? recorded).catch((error) => {
    if (mistake === undefined) throw error;
  });
  replaceFile(path, new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
}

/** Queues get the vector of configuration changes. The common configuration is at the start of BAR 4; its register 26 is the vector of a queue. */
export const wrongVector: Mistake = (device) =>
  instead(device, {
    writeRegion: (region, offset, from) => {
      const wrong = region === REGION.bar4 && offset === 26;
      device.writeRegion(region, offset, wrong ? Uint8Array.of(0, 0) : from);
    },
  });

/** The 82576 is not told how long a receive buffer is. */
export const noBufferLength: Mistake = (device) =>
  instead(device, {
    writeRegion: (region, offset, from) => {
      const wrong = region === REGION.bar0 && offset === IGB_REGISTERS.SRRCTL.offset;
      device.writeRegion(region, offset, wrong ? new Uint8Array(4) : from);
    },
  });

/** What a replay says, and what the driver got. */
export interface Replayed {
  readonly code: number;
  readonly out: string;
  readonly mac: string | undefined;
  readonly failure: string;
}

/** Runs a bring-up on a recorded device. @param socket a path that is made */
export async function replayBringUp(
  path: string,
  socket: string,
  mistake?: Mistake,
  up: BringUp = bringUp,
): Promise<Replayed> {
  const child = startCli({ permissions: PERMISSIONS }, "trace", "replay", path, socket);
  const said = child.stderr.getReader();
  // It says when it serves, and nothing else there; or why it does not.
  const { value } = await said.read();
  said.releaseLock();
  const first = new TextDecoder().decode(value);
  if (!first.includes("as recorded")) throw new Error(`trace replay does not serve: ${first}`);
  let failure = "", mac: string | undefined;
  {
    using there = openHost(`vfio-user:${socket}`);
    const device = there.open("00:00.0");
    mac = await up(mistake?.(device) ?? device).catch((error) => void (failure = error.message));
  }
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, out: decoder.decode(stdout) + decoder.decode(stderr), mac, failure };
}
