/** The control queue that the front end serves itself: commands of the driver, in either layout, and what becomes of them. */
import { assertEquals, assertThrows } from "@std/assert";
import { DeviceError } from "../../../../../lib/errors/mod.ts";
import { usedBurst } from "../../../../../lib/virtio/mod.ts";
import { answerNetControl } from "../../../../../lib/virtio/transport/vhost_user/net_control.ts";
import { OwnQueue } from "../../../../../lib/virtio/transport/vhost_user/own_queue.ts";
import type { FakeIommu } from "../../fake_iommu.ts";
import { packedFixture, ringFixture } from "../../queue/ring_fixture.ts";

function memoryOf(iommu: FakeIommu): (iova: bigint, lengthBytes: number) => Uint8Array {
  return (iova, lengthBytes) => {
    const { buffer, byteOffset } = iommu.at(iova, lengthBytes, true);
    return new Uint8Array(buffer, byteOffset, lengthBytes);
  };
}

for (const layout of ["split", "packed"] as const) {
  for (const indirect of [false, true]) {
    for (const eventIndex of [false, true]) {
      Deno.test(`own queue, ${layout}${indirect ? ", indirect" : ""}${eventIndex ? ", event index" : ""}: hundreds of commands of one to three parts, each answered`, () => {
        const options = { size: layout === "split" ? 4 : 5, indirect, maxSegments: 4, eventIndex };
        using fixture = layout === "split" ? ringFixture(options) : packedFixture(options);
        const { queue, transport } = fixture;
        using memory = transport.dma.allocate(4096);
        const seen: number[][] = [];
        const own = new OwnQueue({ layout, size: options.size, eventIndex }, queue.addresses, {
          function: "fake",
          queue: 2,
          memory: memoryOf(transport.iommu),
          answer: (command) => {
            seen.push([...command]);
            return command[0]! & 0x7f;
          },
        });
        const into = usedBurst(8);
        queue.enableInterrupts();
        for (let number = 0; number < 300; number++) {
          const parts = 1 + number % 3;
          const bytes = memory.bytes();
          bytes.fill(number, 0, 64);
          bytes[64] = 0xff;
          queue.begin(parts, 1);
          for (let part = 0; part < parts; part++) queue.segment(memory.iovaLo + 8 * part, memory.iovaHi, 2);
          queue.segment(memory.iovaLo + 64, memory.iovaHi, 1);
          const id = queue.commit();
          assertEquals(queue.publish(), true, `command ${number} is notified of`);
          assertEquals(own.serve(), true);
          assertEquals([queue.takeUsed(into), into.ids[0], into.lengths[0], bytes[64]], [
            1,
            id,
            1,
            number & 0x7f,
          ]);
          assertEquals(seen.pop(), Array(parts * 2).fill(number & 0xff));
          assertEquals(own.serve(), false);
        }
        queue.suppressInterrupts();
      });
    }
  }
}

Deno.test("own queue: a ring that cannot be is an error that names the queue", () => {
  using fixture = ringFixture({ size: 4 });
  const { queue, transport } = fixture;
  const own = new OwnQueue({ layout: "split", size: 4, eventIndex: false }, queue.addresses, {
    function: "fake",
    queue: 2,
    memory: memoryOf(transport.iommu),
    answer: () => 0,
  });
  memoryOf(transport.iommu)(queue.addresses.driverArea, 8)[2] = 9;
  const error = assertThrows(() => own.serve(), DeviceError, "9 ahead of 0 in a ring of 4");
  assertEquals(error.location, { function: "fake", queue: 2, field: "ring" });
});

Deno.test("commands of a network device: pairs within what there is, filters, and the rest refused", () => {
  const asked: number[] = [];
  const answer = (...bytes: number[]) =>
    answerNetControl(Uint8Array.from(bytes), 4, (pairs) => asked.push(pairs));
  assertEquals([answer(4, 0, 1, 0), answer(4, 0, 4, 0)], [0, 0]);
  assertEquals([
    answer(4, 0, 0, 0),
    answer(4, 0, 5, 0),
    answer(4, 0, 1, 1),
    answer(4, 1, 1, 0),
    answer(4, 0, 1),
  ], [1, 1, 1, 1, 1]);
  assertEquals(asked, [1, 4]);
  assertEquals([answer(0, 0, 1), answer(0, 1, 0), answer(1, 0, 0, 0, 0, 0, 0, 0, 0, 0)], [0, 0, 0]);
  assertEquals([answer(0, 0), answer(1, 1, 2, 0, 0, 0, 0, 1), answer(2, 0, 1, 0), answer(), answer(9)], [
    1,
    1,
    1,
    1,
    1,
  ]);
});
