import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { VirtioNet } from "../../../../drivers/net/virtio_net.ts";
import { DeviceError, TimeoutError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { ModelNet, NET, testFrame } from "../../virtio/model_net.ts";

Deno.test("open: features, MAC, MTU, link, queues in place and buffers given before the first frame", async () => {
  using model = new ModelNet({ mtu: 1400 });
  await using net = await VirtioNet.open(model.transport, { queueSize: 16 });
  assertEquals(net.macText, "52:54:00:01:02:03");
  assertEquals([net.mtu, net.maxFrameBytes, net.linkUp, net.maxQueuePairs], [1400, 1414, true, 1]);
  assertEquals(net.features, model.transport.offered);
  assert(net.featureNames.includes("VIRTIO_NET_F_MRG_RXBUF"));
  assertEquals(model.transport.status, 15);
  assertEquals([...model.transport.rings.keys()], [0, 1, 2]);
  assertEquals(model.transport.ring(0).availableIndex, 16);
  assertEquals(model.transport.ring(1).availableIndex, 0);
});

Deno.test("offloads are never accepted, refused features neither, dependencies are kept", async () => {
  const { version1, guestCsum, guestTso4, ctrlRx, mac, mq } = NET;
  using model = new ModelNet({ features: version1 | guestCsum | guestTso4 | ctrlRx | mq | mac });
  {
    await using net = await VirtioNet.open(model.transport, {});
    assertEquals(net.features, version1 | mac, "CTRL_RX and MQ need CTRL_VQ");
    assertEquals(net.mtu, 1500);
  }
  await using plain = await VirtioNet.open(model.transport, { refusedFeatures: mac });
  assertEquals(plain.features, version1);
  assertEquals(plain.mac[0]! & 3, 2, "made up: unicast and locally administered");
});

Deno.test("two queue pairs: switched on by command, each with its queues, received from both", async () => {
  using model = new ModelNet({ maxPairs: 4, vectors: 16 });
  await using net = await VirtioNet.open(model.transport, { queuePairs: 2 });
  assertEquals(model.commands, [[4, 0, 2, 0]]);
  assertEquals(
    [...model.transport.rings.keys()],
    [0, 1, 2, 3, 8],
    "the control queue follows the last pair of the maximum",
  );
  assertEquals([...model.transport.queueVectors], [[0, 1], [1, 2], [2, 3], [3, 4], [8, 5]]);
  setTimeout(() => model.deliver(testFrame(70, 5), 2), 5);
  assertEquals(await net.receive(60_000), testFrame(70, 5));
  const slot = net.tx[1]!.reserve();
  net.tx[1]!.send(slot, 64);
  net.tx[1]!.flush();
  assertEquals(model.sent.at(-1)?.queue, 3);
  await net.setQueuePairs(1);
  assertEquals(model.commands.at(-1), [4, 0, 1, 0]);
  await assertRejects(() => net.setQueuePairs(3), UsageError);
  await assertRejects(() => net.waitReceive(1, 2), UsageError);
  // Another driver of the same device is refused, and does not disturb this one.
  await assertRejects(() => VirtioNet.open(model.transport), UsageError, "is driven already");
  await net.setQueuePairs(2);
  net.close();
  await assertRejects(
    () => VirtioNet.open(model.transport, { queuePairs: 5 }),
    UnsupportedError,
    "4 queue pairs",
  );
});

Deno.test("control commands: class, command and data as the standard has them", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport);
  const mac = Uint8Array.of(2, 0, 0, 0, 0, 9);
  const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 1);
  model.slowControl = true;
  // Called at once, they are still sent one after the other, since they share their memory.
  await Promise.all([
    net.setPromiscuous(true),
    net.setAllMulticast(false),
    net.setFilter("nobcast", true),
    net.setMacTable([mac], [group, group]),
    net.setMac(mac),
  ]);
  assertEquals(model.commands, [
    [0, 0, 1],
    [0, 1, 0],
    [0, 5, 1],
    [1, 0, 1, 0, 0, 0, ...mac, 2, 0, 0, 0, ...group, ...group],
    [1, 1, ...mac],
  ]);
  assertEquals(net.mac, mac);
  model.slowControl = false;
  await assertRejects(() => net.setMac(new Uint8Array(5)), UsageError);
  await assertRejects(() => net.setMacTable(Array.from({ length: 700 }, () => mac)), UsageError);
  await net.setPromiscuous(false);
});

Deno.test("control commands: refused, not acknowledged, nonsense, not answered, not negotiated", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport, { controlTimeoutMs: 20 });
  for (const [ack, text] of [[1, "refused"], [255, "without acknowledging"], [9, "with 9"]] as const) {
    model.ack = ack;
    const error = await assertRejects(() => net.setPromiscuous(true), DeviceError, text);
    assertEquals(error.location, { function: "fake 0", queue: 2, field: "ack" });
  }
  assertEquals(net.macText, "52:54:00:01:02:03");
  model.ack = undefined;
  const timeout = await assertRejects(() => net.setPromiscuous(true), TimeoutError, "queue 2");
  model.ack = 0;
  // The device still has the command's memory: nothing else is put there before a reset.
  assertStrictEquals(await assertRejects(() => net.setPromiscuous(true), TimeoutError), timeout);
  await net.reset();
  await net.setPromiscuous(true);
  using bare = new ModelNet({ features: NET.version1 });
  await using simple = await VirtioNet.open(bare.transport);
  await assertRejects(() => simple.setPromiscuous(true), UnsupportedError, "VIRTIO_NET_F_CTRL_RX");
});

Deno.test("link changes are told: by config interrupt while somebody waits, by service otherwise", async () => {
  using model = new ModelNet({ vectors: 8 });
  await using net = await VirtioNet.open(model.transport);
  const seen: boolean[] = [];
  const off = net.onLinkChange((up) => {
    seen.push(up);
    // Ends the wait.
    if (!up) model.deliver(testFrame(60));
  });
  setTimeout(() => model.setLink(false), 0);
  assertEquals(await net.receive(60_000), testFrame(60));
  assertEquals([seen, net.linkUp], [[false], false]);
  model.setLink(true);
  net.service();
  assertEquals(seen, [false, true]);
  off();
  model.setLink(false);
  net.service();
  assertEquals([seen.length, net.linkUp], [2, false]);
});
