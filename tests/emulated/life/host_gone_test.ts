import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { ClosedError, PeerGoneError } from "../../../lib/errors/mod.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import type { WaitMode } from "../../../lib/wait/waiter.ts";

const PF = "0000:01:00.0";

for (const wait of ["eventfd", "adaptive", "poll"] as const satisfies readonly WaitMode[]) {
  Deno.test(`who sleeps without a limit (${wait}) hears that the host was killed, and that the device was closed`, async () => {
    const served = await startEmulatedHost();
    try {
      using host = EmulatedHost.connect(served.directory);
      host.bind(PF);
      {
        using device = host.open(PF);
        using transport = PciModernTransport.open(device);
        await using net = await VirtioNet.open(transport, { wait });
        const sleeping = net.waitReceive(Infinity);
        await new Promise((resolve) => setTimeout(resolve, 20));
        device.close();
        await assertRejects(() => sleeping, ClosedError, PF);
      }
      using device = host.open(PF);
      using transport = PciModernTransport.open(device);
      await using net = await VirtioNet.open(transport, { wait });
      const sleeping = [net.waitReceive(Infinity), net.waitTransmit(Infinity)];
      await new Promise((resolve) => setTimeout(resolve, 20));
      Deno.kill(served.pid, "SIGKILL");
      await Promise.all(sleeping.map((one) => assertRejects(() => one, PeerGoneError, PF)));
      await assertRejects(() => net.waitReceive(Infinity), PeerGoneError, PF);
      assertThrows(() => transport.readStatus(), PeerGoneError);
      assertEquals(net.closed, false);
    } finally {
      await served.stop().catch(() => {});
    }
  });
}
