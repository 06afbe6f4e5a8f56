import { assert, assertEquals } from "@std/assert";
import { VirtioAdmin } from "../../../../drivers/admin/virtio_admin.ts";
import { VirtioDevice } from "../../../../lib/virtio/device.ts";
import { LegacyAdminTransport } from "../../../../lib/virtio/transport/pci_legacy_admin.ts";
import { ALL_OPCODES, FakeOwner, type SeenCommand } from "../admin/fake_owner.ts";
import { LegacyFunction, LegacyModel } from "./legacy_model.ts";

/** Offset and width of each common register, and of each field of a network device's configuration. */
const COMMON = new Map([[0, 4], [4, 4], [8, 4], [12, 2], [14, 2], [16, 2], [18, 1], [19, 1]]);
const CONFIG = new Map([[0, 6], [6, 2], [8, 2], [10, 2]]);

/** A VF that is two pieces of memory, behind a PF's commands as they are on the wire. */
class Registers {
  readonly common = new Uint8Array(20);
  readonly config = Uint8Array.from({ length: 12 }, (_, at) => 0xa0 + at);
  readonly wrong: string[] = [];

  readonly answer = ({ opcode, data, writable }: SeenCommand) => {
    if (opcode === 0) return { result: ALL_OPCODES };
    if (opcode < 2 || opcode > 5) return {};
    const bytes = opcode < 4 ? this.common : this.config;
    const [offset = -1] = data;
    const reads = opcode % 2 === 1;
    const length = reads ? writable - 8 : data.length - 8;
    const fields = opcode < 4 ? COMMON : CONFIG;
    const one = [...fields].some(([at, width]) =>
      length > 0 && offset >= at && offset + length <= at + width
    );
    if (!one) this.wrong.push(`opcode ${opcode}: ${length} bytes at ${offset}`);
    if (reads) return { result: bytes.slice(offset, offset + length) };
    if (data.subarray(1, 8).some((byte) => byte !== 0)) this.wrong.push("reserved bytes");
    bytes.set(data.subarray(8), offset);
    return {};
  };
}

Deno.test("N-3.16 data is little-endian on the wire, both ways and in both structures", async () => {
  const registers = new Registers();
  const device = new FakeOwner(registers.answer);
  await using pf = await VirtioAdmin.open(device.transport);
  using vf = new LegacyFunction("0000:0a:00.1", 0x1041, [0, 0, 0x1000, 0, 0, 0]);
  using transport = LegacyAdminTransport.open(vf, pf.member(0).legacy);
  registers.common.set([0x98, 0xba, 0xdc, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 0x34, 0x12]);
  assertEquals(transport.readDeviceFeatures(), 0xfedcba98n);
  transport.writeDriverFeatures(0x89abcdefn);
  assertEquals([...registers.common.subarray(4, 8)], [0xef, 0xcd, 0xab, 0x89]);
  assertEquals(transport.queueMaxSize(0x0102), 0x1234);
  assertEquals([...registers.common.subarray(14, 16)], [2, 1]);
  transport.doorbell(0x0304).ring(0, 0);
  assertEquals([...registers.common.subarray(16, 18)], [4, 3], "Queue Notify");
  transport.writeStatus(7);
  assertEquals([transport.readStatus(), registers.common[18]], [7, 7]);
  assertEquals([transport.readConfig(0, 4), transport.readConfig(4, 2), transport.readConfig(6, 2)], [
    0xa3a2a1a0,
    0xa5a4,
    0xa7a6,
  ]);
  transport.writeConfig(0, 4, 0x44332211);
  assertEquals([...registers.config.subarray(0, 5)], [0x11, 0x22, 0x33, 0x44, 0xa4]);
  assertEquals(registers.wrong, [], "one field each");
});

Deno.test("N-3.16 a device's whole life by single fields, and not one command for its notifications where there is an address", () => {
  for (const areas of [[{ whose: "member", bar: 2, offset: 0x10 } as const], []]) {
    // The model refuses what is not one field, wholly inside the structure.
    using model = new LegacyModel({
      areas,
      features: 1 << 28,
      config: new Uint8Array(12),
      configFields: [...CONFIG].map(([at, width]) => [at, width] as const),
    });
    using transport = LegacyAdminTransport.open(model.vf, model, { owner: model.pf });
    using device = new VirtioDevice(transport);
    device.negotiate();
    transport.enableInterrupts("msix", 2);
    const queue = device.createQueue(0, { vector: 1, maxSegments: 4 });
    transport.setConfigVector(0);
    device.readConsistent(() => [device.readConfig(0, 4), device.readConfig(4, 2), device.readConfig(6, 2)]);
    device.writeConfig(0, 1, 2);
    device.driverOk();
    using memory = transport.dma.allocate(4096);
    const { length } = model.log;
    let notified = 0;
    model.onNotify = () => notified++;
    for (let i = 0; i < 5; i++) {
      assert(queue.addSingle(memory.iovaLo, memory.iovaHi, 64, true) >= 0);
      queue.flush();
    }
    assertEquals(notified, 5);
    const commands = model.log.slice(length);
    assertEquals(commands, areas.length > 0 ? [] : new Array(5).fill("w notify 0"));
    assertEquals(model.vf.barWrites.length, areas.length > 0 ? 5 : 0);
  }
});
