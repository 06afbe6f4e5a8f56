/** Mutated messages, some with descriptors, against the server: it must answer or let the client go, and leak nothing. */
import { assert, assertEquals } from "@std/assert";
import {
  createMemfd,
  EventFd,
  mappingCount,
  openFdCount,
  type OwnedFd,
  UnixSocket,
} from "../../../../ffi/mod.ts";
import { RingsideError } from "../../../../lib/errors/mod.ts";
import { deviceFeature, irqInfo, irqSet, regionInfo } from "../../../../lib/vfio/kernel/abi.ts";
import {
  addressSpaceTail,
  COMMAND,
  dmaMap,
  dmaUnmap,
  messageHeader,
  OWN_COMMAND,
  regionAccess,
  regionIoFds,
  userDeviceInfo,
  writeMulti,
  writeMultiEntry,
} from "../../../../lib/sockets/vfio_user/protocol.ts";
import { VfioUserServer } from "../../../../lib/sockets/vfio_user/mod.ts";
import { REGISTER, SpacesDevice } from "./fake_device.ts";
import { message, testSocketPath, versionPayload } from "./raw_client.ts";
import { campaign, Random, rounds } from "../../../random.ts";

const MESSAGES = rounds(120_000);
const MESSAGES_A_CONNECTION = 400;
const MAPS: readonly number[] = [COMMAND.dmaMap, OWN_COMMAND.spaceMap];

function templates(): Uint8Array<ArrayBuffer>[] {
  const withData = (bytes: Uint8Array<ArrayBuffer>, at: number, data: number[]): Uint8Array<ArrayBuffer> => {
    const all = new Uint8Array(at + data.length);
    all.set(bytes);
    all.set(data, at);
    return all;
  };
  const multi = writeMulti.encode({ writeCount: 2n }, 2 * writeMultiEntry.sizeBytes);
  writeMultiEntry.encodeInto(multi, 8, { offset: 0x100n, region: 0, count: 4, data: 1n });
  writeMultiEntry.encodeInto(multi, 32, { offset: 4n, region: 7, count: 2, data: 6n });
  const write = regionAccess.encode({ offset: BigInt(REGISTER.fill), region: 0, count: 4 });
  return [
    message(COMMAND.version, versionPayload(1, 16, 2)),
    message(COMMAND.dmaMap, dmaMap.encode({ argsz: 32, flags: 3, address: 0x10000n, size: 0x4000n })),
    message(COMMAND.dmaUnmap, dmaUnmap.encode({ argsz: 24, address: 0x10000n, size: 0x4000n })),
    message(COMMAND.dmaUnmap, dmaUnmap.encode({ argsz: 24, flags: 2 })),
    message(COMMAND.deviceGetInfo, userDeviceInfo.encode({ argsz: 16 })),
    message(COMMAND.deviceGetRegionInfo, regionInfo.encode({ argsz: 4096, index: 2 })),
    message(COMMAND.deviceGetRegionIoFds, regionIoFds.encode({ argsz: 4096 })),
    message(COMMAND.deviceGetIrqInfo, irqInfo.encode({ argsz: 16, index: 2 })),
    message(COMMAND.deviceSetIrqs, irqSet.encode({ argsz: 20, flags: 36, index: 2, start: 1, count: 2 })),
    message(COMMAND.deviceSetIrqs, irqSet.encode({ argsz: 20, flags: 33, index: 2 })),
    message(
      COMMAND.deviceSetIrqs,
      withData(irqSet.encode({ argsz: 22, flags: 34, index: 2, count: 2 }), 20, [1, 0]),
    ),
    message(COMMAND.regionRead, regionAccess.encode({ offset: 0x20n, region: 2, count: 64 })),
    message(COMMAND.regionWrite, withData(write, 16, [1, 2, 3, 4])),
    message(COMMAND.deviceReset),
    message(COMMAND.regionWriteMulti, multi),
    message(COMMAND.deviceFeature, deviceFeature.encode({ argsz: 8, flags: (1 << 18) | 1 })),
    message(
      OWN_COMMAND.spaceMap,
      dmaMap.encode(
        { argsz: 40, flags: 3, address: 0x10000n, size: 0x4000n },
        addressSpaceTail.encode({ id: 1 }),
      ),
    ),
    message(
      OWN_COMMAND.spaceUnmap,
      dmaUnmap.encode({ argsz: 32, address: 0x10000n, size: 0x4000n }, addressSpaceTail.encode({ id: 1 })),
    ),
  ];
}

// What breaks range checks: limits, signs, multiples of pages.
const INTERESTING = [
  0,
  1,
  2,
  7,
  8,
  15,
  16,
  0x1000,
  0x3fff,
  0x4000,
  0x10000,
  0x7fff_ffff,
  0x8000_0000,
  0xffff_ffff,
];

function mutate(
  template: Uint8Array<ArrayBuffer>,
  random: Random,
): Uint8Array<ArrayBuffer> {
  const bytes = template.slice();
  const view = new DataView(bytes.buffer);
  for (let changes = random.below(4); changes > 0; changes--) {
    // The size field is changed below, so that most messages get as far as their payload.
    const at = 8 + random.below(Math.max(1, bytes.byteLength - 8));
    switch (random.below(3)) {
      case 0:
        bytes[at] = random.below(256);
        break;
      case 1:
        view.setUint8(at, view.getUint8(at) ^ (1 << random.below(8)));
        break;
      default:
        if ((at & ~3) + 4 <= bytes.byteLength) {
          view.setUint32(at & ~3, INTERESTING[random.below(INTERESTING.length)]!, true);
        }
    }
  }
  switch (random.below(24)) {
    case 0: {
      const cut = bytes.slice(0, 16 + random.below(Math.max(1, bytes.byteLength - 16)));
      new DataView(cut.buffer).setUint32(4, cut.byteLength, true);
      return cut;
    }
    case 1: {
      const longer = new Uint8Array(bytes.byteLength + random.below(64));
      longer.set(bytes);
      new DataView(longer.buffer).setUint32(4, longer.byteLength, true);
      return longer;
    }
    case 2:
      view.setUint16(2, random.below(20), true);
      break;
    case 3:
      if (random.below(8) === 0) view.setUint32(4, INTERESTING[random.below(INTERESTING.length)]!, true);
      break;
  }
  return bytes;
}

/** Reads all replies; false when the server has closed. */
function drain(socket: UnixSocket, buffer: Uint8Array<ArrayBuffer>): { open: boolean; bytes: number } {
  let bytes = 0;
  while (true) {
    try {
      const received = socket.receive(buffer, { wait: false });
      if (received === undefined) return { open: true, bytes };
      for (const fd of received.fds) fd.close();
      if (received.length === 0) return { open: false, bytes };
      bytes += received.length;
    } catch (error) {
      if (!(error instanceof RingsideError)) throw error;
      return { open: false, bytes };
    }
  }
}

Deno.test(campaign(`server: ${MESSAGES} mutated messages, no crash and no leak`, () => {
  const before = [openFdCount(), mappingCount().mappings];
  const random = new Random(0x5eed_0001);
  const buffer = new Uint8Array(1 << 20);
  const valid = templates();
  let connections = 0;
  let answered = 0;
  let filled = 0;
  {
    using device = new SpacesDevice();
    using server = VfioUserServer.listen(testSocketPath(), device);
    using file = createMemfd("memory", 0x4000);
    using one = new EventFd();
    using two = new EventFd();
    const choices: OwnedFd[][] = [[file], [one.fd, two.fd], [one.fd], [file, one.fd], [file, file]];
    // These would sleep, or throw what is a bug of the device on purpose.
    device.quiet = true;
    const { writeRegion } = device;
    device.writeRegion = (index, offset, from) => {
      const harmful = index === 0 && (offset === REGISTER.hang || offset === REGISTER.bug);
      if (!harmful) writeRegion.call(device, index, offset, from);
    };
    const base = openFdCount();
    let socket: UnixSocket | null = null;
    let sentHere = 0;
    for (let sent = 0; sent < MESSAGES; sent++) {
      if (socket === null) {
        socket = UnixSocket.connect(server.path);
        connections++;
        sentHere = 0;
        if (random.below(10) !== 0) socket.send(valid[0]!);
      }
      const which = random.below(valid.length);
      const template = valid[which]!;
      const command = messageHeader.decode(template).command;
      const bytes = mutate(template, random);
      let fds: OwnedFd[] = [];
      if (MAPS.includes(command) && random.below(8) !== 0) fds = choices[0]!;
      else if (command === COMMAND.deviceSetIrqs && random.below(4) !== 0) {
        fds = choices[1 + random.below(2)]!;
      } else if (random.below(40) === 0) fds = choices[random.below(choices.length)]!;
      if (random.below(300) === 0) {
        socket.send(bytes.slice(0, 1 + random.below(bytes.byteLength)), fds);
        sentHere = MESSAGES_A_CONNECTION;
      } else socket.send(bytes, fds);
      server.handleReadable();
      filled += device.addressSpaces[0]!.count > 0 ? 1 : 0;
      const { open, bytes: replied } = drain(socket, buffer);
      if (replied > 0) answered++;
      if (!open || ++sentHere >= MESSAGES_A_CONNECTION) {
        socket.close();
        socket = null;
        server.handleReadable();
        assertEquals([server.connectionFd, server.dma.count, device.eventFdCount], [null, 0, 0]);
        assertEquals(device.addressSpaces.map(({ count }) => count), [0, 0]);
        assertEquals(openFdCount(), base, `message ${sent}`);
      }
    }
    socket?.close();
    server.handleReadable();
    // Still a server that works.
    socket = UnixSocket.connect(server.path);
    socket.send(valid[0]!);
    socket.send(valid[4]!);
    server.handleReadable();
    assert(drain(socket, buffer).bytes > 32);
    socket.close();
    server.handleReadable();
  }
  assert(filled > MESSAGES / 100, `${filled} times there was memory in address space 1`);
  assert(
    connections >= MESSAGES / MESSAGES_A_CONNECTION && answered > MESSAGES / 2,
    `${connections} connections, ${answered} answers`,
  );
  assertEquals([openFdCount(), mappingCount().mappings], before);
}));
