/** What a network driver checks and puts back when it goes on with a saved device. */
import { assertEquals, assertRejects } from "@std/assert";
import { type ResumeNetOptions, type SavedNet, VirtioNet } from "../../../../drivers/net/virtio_net.ts";
import { UnsupportedError } from "../../../../lib/errors/mod.ts";
import { ModelNet, type ModelNetOptions, NET } from "../../virtio/model_net.ts";

const QUEUE_STATE = 1n << 40n;
const RING_PACKED = 1n << 34n;
const USUAL: ModelNetOptions = { profile: "queue-state", more: QUEUE_STATE };
/** Class and command that set the device's own address. */
const SET_MAC = "1,1";

/** A device that was suspended with one frame sent and not returned. */
async function saved(change: Partial<SavedNet> = {}): Promise<SavedNet> {
  using model = new ModelNet(USUAL);
  const net = await VirtioNet.open(model.transport, { queueSize: 32 });
  model.takeSent = false;
  net.send(new Uint8Array(60).fill(1));
  return { ...await net.suspend(), ...change };
}

async function resumed(
  device: SavedNet,
  options: ModelNetOptions,
  use: (net: VirtioNet, model: ModelNet) => void,
  resume: ResumeNetOptions = {},
): Promise<void> {
  using model = new ModelNet({ ...USUAL, ...options });
  await using net = await VirtioNet.resume(model.transport, device, resume);
  use(net, model);
}

const setMacs = (model: ModelNet) =>
  model.commands.filter(([cls, command]) => `${cls},${command}` === SET_MAC).map((one) => one.slice(2));

Deno.test("the address is put back when the device has another, and only then; the driver always has it", async () => {
  await resumed(await saved(), {}, (net, model) => {
    assertEquals([net.macText, setMacs(model)], ["52:54:00:01:02:03", []]);
    assertEquals(model.sent.map(({ bytes }) => bytes.length), [72]);
  });
  const other = await saved({ mac: "02:00:00:00:00:09" });
  await resumed(other, {}, (net, model) => {
    assertEquals([net.macText, setMacs(model)], ["02:00:00:00:00:09", [[2, 0, 0, 0, 0, 9]]]);
  });
  // A device without an address of its own: the driver made one up, and goes on with it.
  const { version1, status, mrgRxbuf, ctrlVq, ctrlRx } = NET;
  const without = version1 | status | mrgRxbuf | ctrlVq | ctrlRx;
  await resumed(other, { features: without }, (net, model) => {
    assertEquals([net.macText, setMacs(model)], ["02:00:00:00:00:09", []]);
  });
});

Deno.test("an MTU below that of before is refused, the same is not", async () => {
  const device = await saved();
  await assertRejects(
    () => resumed(device, { mtu: 1499 }, () => {}),
    UnsupportedError,
    "has MTU 1499, the suspended device had 1500",
  );
  await resumed(device, { mtu: 1500 }, (net) => assertEquals(net.rings, "continued"));
});

const CANNOT: readonly [what: string, options: ModelNetOptions, resume: ResumeNetOptions][] = [
  ["VIRTIO_F_QUEUE_STATE was not negotiated", { more: 0n }, {}],
  ["the rings are split, packed was negotiated", { more: QUEUE_STATE | RING_PACKED }, { packed: true }],
  ["the sizes of the rings are not the 16 of the new ones", {}, { queueSize: 16 }],
  ["the sizes of the rings are not the 32 of the new ones", { queueSize: 16 }, {}],
  ["the control queue has another number here", { maxPairs: 2 }, {}],
  ["the control queue has another size here", { controlQueueSize: 8 }, {}],
];

for (const [what, options, resume] of CANNOT) {
  Deno.test(`rings cannot go on: ${what}; asked for they are refused, else they start afresh`, async () => {
    const device = await saved();
    await assertRejects(
      () => resumed(device, options, () => {}, { ...resume, rings: "continue" }),
      UnsupportedError,
      what,
    );
    if (resume.packed === true) return;
    await resumed(device, options, (net, model) => {
      assertEquals([net.rings, model.sent.length], ["fresh", 1]);
    }, resume);
  });
}

Deno.test("a device that had no control queue goes on where there is one", async () => {
  await resumed(await saved({ control: null }), {}, (net) => assertEquals(net.rings, "continued"));
});
