import { assertEquals } from "@std/assert";
import { VirtioNet } from "../../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../../drivers/rng/virtio_rng.ts";
import { NetModel } from "../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../lib/emulation/virtio/net/switch.ts";
import { RngModel } from "../../../../lib/emulation/virtio/rng/model.ts";
import { ArrayDevice, ArrayTransport } from "./array_transport.ts";
import { testFrame } from "../model_net.ts";

const POLL = { interrupts: "none", wait: "poll" } as const;

for (const packed of [false, true]) {
  Deno.test(`registers in an array: virtio_rng and virtio_net drive it unchanged (${packed ? "packed" : "split"})`, async () => {
    const nets = new NetSwitch("s0");
    const models = [
      new RngModel(),
      new NetModel(nets, { mac: "52:54:00:00:00:01" }),
      new NetModel(nets, { mac: "52:54:00:00:00:02" }),
    ];
    const devices = models.map((model, at) => new ArrayDevice(`array ${at}`, model));
    const work = () => {
      while (devices.some(({ core }) => core.poll(64) > 0 || core.arm()));
    };
    for (const one of devices) one.work = work;
    using entropy = new ArrayTransport(devices[0]!);
    using here = new ArrayTransport(devices[1]!);
    using there = new ArrayTransport(devices[2]!);

    await using rng = VirtioRng.open(entropy, { ...POLL, packed });
    const bytes = await rng.read(1000);
    assertEquals([bytes.length, new Set(bytes).size > 100], [1000, true]);

    await using sender = await VirtioNet.open(here, { ...POLL, packed });
    await using receiver = await VirtioNet.open(there, { ...POLL, packed });
    assertEquals([sender.macText, receiver.macText], ["52:54:00:00:00:01", "52:54:00:00:00:02"]);
    for (let serial = 0; serial < 500; serial++) {
      const frame = testFrame(60 + serial, serial);
      frame.set(receiver.mac);
      frame.set(sender.mac, 6);
      sender.send(frame);
      assertEquals(await receiver.receive(1000), frame);
    }
    assertEquals(devices.flatMap(({ violations }) => violations), []);
    assertEquals(here.queueView(1).enabled, true);
    await sender.reset();
    assertEquals(sender.macText, "52:54:00:00:00:01");
  });
}
