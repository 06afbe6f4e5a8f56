/** MAP_AREA: the extension by which a server gives files behind parts of regions, from both sides. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  createSharedFile,
  errnoNumber,
  isErrno,
  MappedMemory,
  mappingCount,
  openFdCount,
  type OwnedFd,
  pwrite,
  reopenReadOnly,
  SyscallError,
  UnixSocket,
} from "../../../../ffi/mod.ts";
import { ProtocolError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { REGION_FLAG } from "../../../../lib/vfio/device.ts";
import { decodeVersion, encodeVersion } from "../../../../lib/sockets/vfio_user/capabilities.ts";
import {
  COMMAND,
  commandName,
  MAP_AREA_FLAG,
  mapArea,
  OWN_COMMAND,
  userDeviceInfo,
} from "../../../../lib/sockets/vfio_user/protocol.ts";
import { encodeRegionInfo } from "../../../../lib/sockets/vfio_user/server/region_reply.ts";
import { type ServedMapping, VfioUserDevice, VfioUserServer } from "../../../../lib/sockets/vfio_user/mod.ts";
import { FakeDevice } from "./fake_device.ts";
import { message, RawClient, testSocketPath } from "./raw_client.ts";
import { campaign, Random, rounds } from "../../../random.ts";

const { EINVAL, ENOTSUP, EACCES } = errnoNumber;
const PAGE = 4096;
const CAPABILITIES = {
  maxMessageFds: 2,
  maxDataTransferBytes: 64,
  maxDmaMaps: 1,
  pageSizes: 4096,
  writeMultiple: false,
};

/** BAR 0 has one page at 0x1000 for everybody, one at 0x2000 for reading only, and nothing elsewhere. */
class AreaDevice extends FakeDevice {
  readonly shared = createSharedFile("area", 4 * PAGE);
  readonly readOnly = reopenReadOnly(this.shared);

  mapArea(index: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined {
    this.log.push(`map ${index} ${offset} ${sizeBytes} ${writable}`);
    if (index !== 0 || sizeBytes !== PAGE) return undefined;
    if (offset === 0x1000) {
      return { file: writable ? this.shared : this.readOnly, fileOffset: PAGE, writable };
    }
    if (offset !== 0x2000) return undefined;
    if (writable) throw new SyscallError("map", "page 2", EACCES!);
    return { file: this.readOnly, fileOffset: 2 * PAGE, writable: false };
  }

  override [Symbol.dispose](): void {
    this.shared.close();
    this.readOnly.close();
    super[Symbol.dispose]();
  }
}

function request(values: Partial<Parameters<typeof mapArea.encode>[0]> = {}): Uint8Array<ArrayBuffer> {
  return mapArea.encode({
    argsz: 40,
    flags: 0,
    index: 0,
    reserved: 0,
    offset: 0x1000n,
    size: BigInt(PAGE),
    ...values,
  });
}

function served(test: (client: RawClient, device: AreaDevice) => void, mapsAreas = true): void {
  const before = [openFdCount(), mappingCount().mappings];
  {
    using device = new AreaDevice();
    using server = VfioUserServer.listen(testSocketPath(), device);
    using client = new RawClient(server, { negotiate: false });
    const offer = encodeVersion(1, { ...CAPABILITIES, ...(mapsAreas ? { mapArea: true } : {}) });
    const answer = client.call(COMMAND.version, offer);
    assertEquals(
      decodeVersion(answer.payload, "server").capabilities.mapArea,
      mapsAreas ? true : undefined,
    );
    device.log.length = 0;
    test(client, device);
  }
  assertEquals([openFdCount(), mappingCount().mappings], before, "descriptors and mappings leak");
}

Deno.test("MAP_AREA: layout, number and name are pinned", () => {
  assertEquals(OWN_COMMAND.mapArea, 0xf5a1);
  assertEquals(commandName(0xf5a1), "MAP_AREA");
  assertEquals(mapArea.sizeBytes, 40);
  assertEquals(
    Object.entries(mapArea.fields).map(([name, { offset }]) => `${name}@${offset}`).join(" "),
    "argsz@0 flags@4 index@8 reserved@12 offset@16 size@24 fileOffset@32",
  );
  assertEquals(MAP_AREA_FLAG, { write: 1 });
  const text = new TextDecoder().decode(encodeVersion(1, { ...CAPABILITIES, mapArea: true }));
  assert(text.includes('"ringside_map_area":true'));
});

Deno.test("server MAP_AREA: the device's file and offset, writable or for reading only", () => {
  served((client, device) => {
    const writable = client.call(OWN_COMMAND.mapArea, request({ flags: 1 }));
    assertEquals(writable.error, 0);
    assertEquals(mapArea.decode(writable.payload), {
      argsz: 40,
      flags: 1,
      index: 0,
      reserved: 0,
      offset: 0x1000n,
      size: BigInt(PAGE),
      fileOffset: BigInt(PAGE),
    });
    assertEquals(writable.fds.length, 1);
    {
      using fd = writable.fds[0]!;
      using memory = MappedMemory.map(fd, PAGE, { offset: BigInt(PAGE) });
      memory.bytes()[7] = 77;
    }
    using own = MappedMemory.map(device.shared, 4 * PAGE);
    assertEquals(own.bytes()[PAGE + 7], 77, "the pages are the same");

    const reading = client.call(OWN_COMMAND.mapArea, request({ offset: 0x2000n }));
    assertEquals(mapArea.decode(reading.payload).flags, 0);
    using fd = reading.fds[0]!;
    const error = assertThrows(() => MappedMemory.map(fd, PAGE, { offset: BigInt(2 * PAGE) }), SyscallError);
    assertEquals(error.errno, EACCES, "the kernel refuses a writable mapping");
    assertThrows(() => pwrite(fd, new Uint8Array(1), 0n), SyscallError);
    using memory = MappedMemory.map(fd, PAGE, { offset: BigInt(2 * PAGE), writable: false });
    assertEquals(memory.copy(0, 1)[0], 0);
    assertEquals(device.log, [`map 0 4096 4096 true`, `map 0 8192 4096 false`]);
  });
});

Deno.test("server MAP_AREA: what cannot be is refused before the device sees it, or by the device", () => {
  served((client, device) => {
    const refused = (payload: Uint8Array<ArrayBuffer>, error: number | undefined, seen = 0) => {
      device.log.length = 0;
      const reply = client.call(OWN_COMMAND.mapArea, payload);
      assertEquals([reply.error, reply.fds.length, reply.payload.length], [error!, 0, 0]);
      assertEquals(device.log.length, seen);
    };
    refused(request().subarray(0, 39), EINVAL);
    refused(new Uint8Array(41), EINVAL);
    refused(request({ argsz: 39 }), EINVAL);
    refused(request({ flags: 2 }), EINVAL);
    refused(request({ reserved: 1 }), EINVAL);
    refused(request({ fileOffset: 1n }), EINVAL);
    refused(request({ index: 9 }), EINVAL);
    refused(request({ index: 0xffff_ffff }), EINVAL);
    refused(request({ size: 0n }), EINVAL);
    refused(request({ size: 100n }), EINVAL);
    refused(request({ offset: 1n }), EINVAL);
    refused(request({ offset: 0x4000n }), EINVAL);
    refused(request({ size: 1n << 63n }), EINVAL);
    refused(request({ offset: (1n << 64n) - 4096n }), EINVAL);
    refused(request({ offset: 0n }), ENOTSUP, 1);
    refused(request({ offset: 0x2000n, flags: 1 }), EACCES, 1);
    const [file] = [createSharedFile("stray", PAGE)];
    const stray = client.call(OWN_COMMAND.mapArea, request(), [file]);
    file.close();
    assertEquals(stray.error, 0, "descriptors that have no use are closed");
    stray.fds[0]!.close();
    const after = client.call(OWN_COMMAND.mapArea, request());
    assertEquals(after.error, 0, "the connection goes on");
    after.fds[0]!.close();
  });
});

Deno.test("server MAP_AREA: a device that grants less than was asked for refuses", () => {
  served((client, device) => {
    device.mapArea = () => ({ file: device.readOnly, fileOffset: 0, writable: false });
    assertEquals(client.call(OWN_COMMAND.mapArea, request({ flags: 1 })).error, ENOTSUP);
  });
});

Deno.test("server MAP_AREA: without the capability there is no such command, and a device without areas does not name it", () => {
  served((client, device) => {
    assertEquals(client.call(OWN_COMMAND.mapArea, request()).error, ENOTSUP);
    assertEquals(device.log, []);
  }, false);
  using device = new FakeDevice();
  using server = VfioUserServer.listen(testSocketPath(), device);
  using client = new RawClient(server, { negotiate: false });
  const answer = client.call(COMMAND.version, encodeVersion(1, { ...CAPABILITIES, mapArea: true }));
  assertEquals(decodeVersion(answer.payload, "server").named.has("ringside_map_area"), false);
});

Deno.test(campaign("server MAP_AREA: 20,000 mutated requests are answered, and leak nothing", () => {
  served((client) => {
    const random = new Random(0x51a7);
    const interesting = [0, 1, 0x7f, 0x80, 0xff, 0x10, 0x40];
    let granted = 0;
    for (let i = 0; i < rounds(20_000); i++) {
      const bytes = request({ flags: random.below(2), offset: BigInt(0x1000 * random.below(5)) });
      for (let n = random.below(4); n > 0; n--) {
        bytes[random.below(bytes.length)] = interesting[random.below(7)]!;
      }
      const cut = random.below(20) === 0 ? bytes.slice(0, random.below(41)) : bytes;
      const reply = client.call(OWN_COMMAND.mapArea, cut);
      assertEquals(reply.error === 0, reply.fds.length === 1);
      for (const fd of reply.fds) fd.close();
      if (reply.error === 0) granted++;
    }
    assert(granted > rounds(1000), `only ${granted} were granted`);
  });
}));

// ---- client ----

interface Scripted {
  readonly error?: number;
  readonly values?: Partial<ReturnType<typeof mapArea.decode>>;
  readonly file?: OwnedFd;
  readonly payload?: Uint8Array<ArrayBuffer>;
}

/** A client whose server answers one MAP_AREA so. */
function answered(answer: Scripted, test: (device: VfioUserDevice) => void, mapsAreas = true): void {
  const before = [openFdCount(), mappingCount().mappings];
  const [peer, socket] = UnixSocket.pair();
  const reply = (command: number, id: number, payload?: Uint8Array, error = 0) =>
    message(command, payload, { id, flags: error === 0 ? 1 : 0x21, error });
  const offer = { ...CAPABILITIES, ...(mapsAreas ? { mapArea: true } : {}) };
  peer.send(reply(COMMAND.version, 0, encodeVersion(1, offer)));
  const info = userDeviceInfo.encode({ argsz: 16, flags: 3, numRegions: 9, numIrqs: 5 });
  peer.send(reply(COMMAND.deviceGetInfo, 1, info));
  const region = encodeRegionInfo({
    index: 2,
    flags: REGION_FLAG.read | REGION_FLAG.write,
    sizeBytes: 0x10000,
    mmapAreas: [],
    msixMappable: false,
  }, 1024);
  peer.send(reply(COMMAND.deviceGetRegionInfo, 2, region.bytes));
  const good = { argsz: 40, flags: 1, index: 2, reserved: 0, offset: 0x1000n, size: 4096n, fileOffset: 0n };
  const payload = answer.payload ?? mapArea.encode({ ...good, ...answer.values });
  peer.send(
    reply(OWN_COMMAND.mapArea, 3, answer.error === undefined ? payload : undefined, answer.error ?? 0),
    answer.file === undefined ? [] : [answer.file],
  );
  const device = VfioUserDevice.fromSocket(socket, { name: "fake", timeoutMs: 50 });
  try {
    test(device);
  } finally {
    device.close();
    peer.close();
  }
  assertEquals([openFdCount(), mappingCount().mappings], before, "descriptors and mappings leak");
}

const AREA = { offset: 0x1000, sizeBytes: PAGE };

Deno.test("client MAP_AREA: maps what the server gives, and closes it with the device", () => {
  using file = createSharedFile("given", 2 * PAGE);
  answered({ file, values: { fileOffset: 4096n } }, (device) => {
    const memory = device.mapRegion(2, AREA);
    memory.bytes()[3] = 9;
    using own = MappedMemory.map(file, 2 * PAGE);
    assertEquals(own.bytes()[PAGE + 3], 9);
    device.close();
    assert(memory.closed);
  });
  using readOnly = reopenReadOnly(file);
  answered({ file: readOnly, values: { flags: 0 } }, (device) => {
    const memory = device.mapRegion(2, AREA, { writable: false });
    assertEquals(memory.copy(0, 1).length, 1);
    assertThrows(() => memory.buffer, UsageError, "read-only");
  });
});

Deno.test("client MAP_AREA: refusals are UnsupportedErrors with what was asked for, other errors their own", () => {
  answered({ error: ENOTSUP! }, (device) => {
    assertThrows(
      () => device.mapRegion(2, AREA),
      UnsupportedError,
      "[4096, +4096) of region 2 cannot be mapped now",
    );
    assertEquals(device.broken, null);
  });
  answered({ error: EACCES! }, (device) => {
    const error = assertThrows(() => device.mapRegion(2, AREA), UnsupportedError, "writable");
    assert(error.hint.includes("reading only"));
  });
  answered({ error: errnoNumber.ENOMEM! }, (device) => {
    const error = assertThrows(() => device.mapRegion(2, AREA), SyscallError);
    assert(isErrno(error, "ENOMEM"));
  });
});

Deno.test("client MAP_AREA: what the server must not answer breaks the connection", () => {
  using file = createSharedFile("given", PAGE);
  const broken = (answer: Scripted, text: string) =>
    answered(answer, (device) => {
      assertThrows(() => device.mapRegion(2, AREA), ProtocolError, text);
      assert(device.broken !== null);
    });
  broken({}, "no file came along");
  broken({ file, values: { index: 1 } }, "region 1");
  broken({ file, values: { offset: 0n } }, "[0, +4096)");
  broken({ file, values: { size: 8192n } }, "+8192)");
  broken({ file, values: { flags: 0 } }, "not writable");
  broken({ file, values: { fileOffset: 4096n } }, "which end before");
  broken({ file, values: { fileOffset: (1n << 64n) - 1n } }, "which end before");
  broken({ file, payload: new Uint8Array(39) }, "39 bytes");
  using other = createSharedFile("other", PAGE);
  answered({ file: reopened(other) }, (device) => {
    // It says writable and gives a file that is not: the kernel's word counts.
    assertThrows(() => device.mapRegion(2, AREA), SyscallError);
  });
  for (const fd of opened.splice(0)) fd.close();
});

const opened: OwnedFd[] = [];
function reopened(fd: OwnedFd): OwnedFd {
  const again = reopenReadOnly(fd);
  opened.push(again);
  return again;
}

Deno.test("client MAP_AREA: nothing is asked for outside the region or in parts of pages, nor of a server without it", () => {
  answered({ error: EINVAL! }, (device) => {
    for (const [offset, sizeBytes] of [[0, 100], [1, PAGE], [0x10000, PAGE], [-PAGE, PAGE], [0, 0]]) {
      assertThrows(
        () => device.mapRegion(2, { offset: offset!, sizeBytes: sizeBytes! }),
        UsageError,
      );
    }
  });
  answered({ error: EINVAL! }, (device) => {
    assertThrows(() => device.mapRegion(2, AREA), UnsupportedError, "may not be mapped");
    assertEquals(device.broken, null);
  }, false);
});
