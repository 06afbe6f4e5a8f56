/**
 * The main job: gives a virtio-net PF to vfio-pci, enables two VFs, sends checked frames from one to the other by polling and by interrupt, and puts the
 * host back.
 *
 * Run it: `deno run --allow-ffi examples/vf_to_vf.ts HOST PF`, with HOST `linux` or an emulated host's directory.
 *
 * @module
 */
import { DEVICE_FEATURE, isPciDevice, openHost, openTransport, VirtioNet } from "@ringside/ringside";
import {
  exchangeByInterrupt,
  exchangePolled,
  type ExchangeResult,
  TestFrames,
} from "@ringside/ringside/drivers/virtio-net-exchange";

const [hostName, pf] = Deno.args;
if (hostName === undefined || pf === undefined) {
  console.error("usage: vf_to_vf.ts HOST PF   (HOST: linux, or an emulated host's directory)");
  Deno.exit(2);
}

using host = openHost(hostName);
try {
  host.bind(pf);
  // The PF stays open while its VFs are used: it holds their token, and closing it resets it.
  using device = host.open(pf);
  const vfToken = crypto.randomUUID();
  if (isPciDevice(device) && device.probeFeature(DEVICE_FEATURE.pciVfToken, "set")) {
    device.setVfToken(vfToken);
  }
  const vfs = host.setVfCount(pf, 2);
  await using stack = new AsyncDisposableStack();
  const open = async (vf: string) => {
    host.bind(vf);
    const transport = stack.use(openTransport(stack.use(host.open(vf, { vfToken }))));
    // Without `eventfd` a wait would spin first, and a fast device would never be slept for.
    return stack.use(await VirtioNet.open(transport, { interrupts: "auto", wait: "eventfd" }));
  };
  const [sender, receiver] = [await open(vfs[0]!), await open(vfs[1]!)];
  console.log(`from ${sender.macText} to ${receiver.macText}, ${receiver.interruptKind}`);
  const frames = new TestFrames(receiver.mac, sender.mac, 64, Math.min(sender.maxFrameBytes, 1514));
  report("polling", await exchangePolled(sender, receiver, frames, 100_000));
  report("interrupts", await exchangeByInterrupt(sender, receiver, frames, 1000));
} finally {
  const { done, failed } = host.restore(pf);
  console.log(`restore     ${done.length} changes undone`);
  for (const { entry, error } of failed) console.error(`${entry.function}: ${error.message}`);
}

function report(how: string, { frames, bytes, framesPerSecond }: ExchangeResult): void {
  console.log(`${how.padEnd(11)} ${frames} frames, ${bytes} bytes, all as sent; ${framesPerSecond} frames/s`);
}
