/** Shared memory of a virtio-ism function over its real socket: mappings by MAP_AREA, read-only ones, doorbells, and a peer without the extension. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { UnixSocket } from "../../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { REGION } from "../../../lib/vfio/device.ts";
import { encodeVersion } from "../../../lib/sockets/vfio_user/capabilities.ts";
import {
  COMMAND,
  HEADER_BYTES,
  mapArea,
  messageHeader,
  OWN_COMMAND,
} from "../../../lib/sockets/vfio_user/protocol.ts";
import { ISM_SHM } from "../../../lib/virtio/spec/mod.ts";
import { message } from "../../unit/sockets/vfio_user/raw_client.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const CHUNK = 65536;
const PAGE = 4096;
const FIRST = "0000:01:00.0", SECOND = "0000:02:00.0", THIRD = "0000:03:00.0";

Deno.test("MAP_AREA over a socket: the same pages in two functions' mappings, rights in the kernel, nothing where no region is", async () => {
  const host = await TopologyHost.start([FIRST, SECOND].map((address) => ({ address, kind: "virtio-ism" })));
  try {
    using a = host.reach(FIRST);
    using b = host.reach(SECOND);
    using ismA = await VirtioIsm.open(a.transport);
    using ismB = await VirtioIsm.open(b.transport);
    const areaA = a.transport.sharedMemory(ISM_SHM.regions)!;
    const areaB = b.transport.sharedMemory(ISM_SHM.regions)!;
    assertEquals(areaA.sizeBytes, 4096 * CHUNK);
    assertThrows(() => areaA.map({ offset: 0, sizeBytes: PAGE }), UnsupportedError, "cannot be mapped now");

    const region = await ismA.alloc(3 * CHUNK);
    const other = await ismB.attach(region.token, { read: true, write: false });
    const [atA, atB] = [region.chunks[0]!, other.chunks[0]!];
    const writable = areaA.map({ offset: atA, sizeBytes: 3 * CHUNK });
    writable.bytes()[2 * CHUNK + 5] = 42;
    const readOnly = areaB.map({ offset: atB + 2 * CHUNK, sizeBytes: PAGE }, { writable: false });
    assertEquals(readOnly.copy(5, 1)[0], 42);
    assertThrows(() => readOnly.bytes(), UsageError, "read-only");
    const refused = assertThrows(
      () => areaB.map({ offset: atB, sizeBytes: PAGE }),
      UnsupportedError,
      "writable",
    );
    assert(refused.hint.includes("reading only"));
    assertThrows(() => areaA.map({ offset: atA, sizeBytes: 4 * CHUNK }), UnsupportedError);
    assertThrows(() => areaA.map({ offset: atA + 1, sizeBytes: PAGE }), UsageError);
    assertThrows(() => areaA.map({ offset: areaA.sizeBytes, sizeBytes: PAGE }), UsageError);

    // By messages, the same bytes.
    const into = new Uint8Array(4);
    areaB.read(atB + 2 * CHUNK + 4, into);
    assertEquals([...into], [0, 42, 0, 0]);
    areaA.write(atA + 8, new Uint8Array([1, 2, 3, 4]));
    assertEquals([...writable.bytes(8, 4)], [1, 2, 3, 4]);
    assertEquals(b.device.regionInfo(REGION.bar2).mmapAreas, [], "nothing is mappable as such");
    const notify = b.transport.sharedMemory(ISM_SHM.notify)!;
    assert(b.device.doorbellFd(REGION.bar2, 4096 * CHUNK, 1) !== undefined, "chunk 0 has an eventfd");
    assertEquals(notify.sizeBytes, 4096 * 4);

    await other.detach();
    assertEquals(readOnly.copy(5, 1)[0], 42, "its own pages, for as long as it is mapped");
    assertThrows(() => areaB.map({ offset: atB, sizeBytes: PAGE }, { writable: false }), UnsupportedError);
  } finally {
    assertEquals(await host.stop(), []);
  }
});

Deno.test("a peer that does not name ringside_map_area is told nothing of it, and finds no such command", async () => {
  const host = await TopologyHost.start([{ address: THIRD, kind: "virtio-ism", driver: "vfio-pci" }]);
  try {
    using socket = UnixSocket.connect(`${host.directory}/${THIRD}.sock`);
    const call = (command: number, payload: Uint8Array) => {
      socket.send(message(command, payload));
      const bytes = new Uint8Array(4096);
      let have = 0;
      while (have < HEADER_BYTES || have < messageHeader.decode(bytes).messageBytes) {
        have += socket.receive(bytes.subarray(have))!.length;
      }
      return { header: messageHeader.decode(bytes), text: new TextDecoder().decode(bytes.subarray(0, have)) };
    };
    const offer = {
      maxMessageFds: 8,
      maxDataTransferBytes: 4096,
      maxDmaMaps: 8,
      pageSizes: 4096,
      writeMultiple: true,
    };
    const version = call(COMMAND.version, encodeVersion(0, offer));
    assertEquals(version.header.errorNumber, 0);
    assert(!version.text.includes("ringside"));
    const refused = call(
      OWN_COMMAND.mapArea,
      mapArea.encode({ argsz: 40, index: 2, size: BigInt(PAGE) }),
    );
    assertEquals(refused.header.errorNumber, 95, "ENOTSUP");
  } finally {
    assertEquals(await host.stop(), []);
  }
});
