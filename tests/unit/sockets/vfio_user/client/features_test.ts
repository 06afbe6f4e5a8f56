/** The vfio-user client: DEVICE_FEATURE as it is, and the data of migration. */
import { assertEquals, assertThrows } from "@std/assert";
import { SyscallError } from "../../../../../ffi/mod.ts";
import { ProtocolError, UsageError } from "../../../../../lib/errors/mod.ts";
import { DEVICE_FEATURE } from "../../../../../lib/vfio/device.ts";
import { deviceFeature } from "../../../../../lib/vfio/kernel/abi.ts";
import { COMMAND, migrationData } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { EINVAL, FAILED, type Fixed, reply, session } from "./session.ts";

const { migDeviceState } = DEVICE_FEATURE;

function feature(id: number, number: number, data: readonly number[] = []): Fixed {
  const bytes = deviceFeature.encode({ argsz: 8 + data.length, flags: 0x10000 | number }, data.length);
  bytes.set(data, 8);
  return reply(COMMAND.deviceFeature, id, bytes);
}

function migration(command: number, id: number, size: number, have = size): Fixed {
  const bytes = migrationData.encode({ argsz: 8 + size, size }, have);
  for (let i = 0; i < have; i++) bytes[8 + i] = i;
  return reply(command, id, bytes);
}

Deno.test("client DEVICE_FEATURE: what is set goes behind the header, what is got comes back", () => {
  using s = session([
    feature(2, migDeviceState, [2, 0, 0, 0, 255, 255, 255, 255]),
    feature(3, migDeviceState, [4, 0, 0, 0, 255, 255, 255, 255]),
    reply(COMMAND.deviceFeature, 4, undefined, FAILED, EINVAL),
  ]);
  const data = new Uint8Array([4, 0, 0, 0, 255, 255, 255, 255]);
  assertEquals([...s.device.deviceFeature(migDeviceState, "get", undefined, 8)].slice(0, 4), [2, 0, 0, 0]);
  assertEquals(s.device.deviceFeature(migDeviceState, "set", data).byteLength, 0);
  assertThrows(() => s.device.deviceFeature(9, "get", undefined, 8), SyscallError, "EINVAL");
  const sent = s.requests().slice(2).map((bytes) => [...bytes.subarray(16)]);
  assertEquals(sent, [
    [16, 0, 0, 0, 2, 0, 1, 0],
    [16, 0, 0, 0, 2, 0, 2, 0, 4, 0, 0, 0, 255, 255, 255, 255],
    [16, 0, 0, 0, 9, 0, 1, 0],
  ]);
  assertThrows(() => s.device.deviceFeature(0x10000, "get"), UsageError, "65536");
  assertThrows(() => s.device.deviceFeature(1, "set", new Uint8Array(65536)), UsageError, "65536 bytes");
  assertThrows(() => s.device.deviceFeature(1, "get", undefined, -1), UsageError, "-1 bytes");
});

Deno.test("client DEVICE_FEATURE, MIG_DATA_READ: an answer that lies is a ProtocolError", () => {
  const get = [
    [feature(2, 3, [0, 0, 0, 0]), "about feature 3"],
    [feature(2, migDeviceState, [0, 0, 0, 0, 0]), "13 bytes for an argsz of 12"],
    [reply(COMMAND.deviceFeature, 2, new Uint8Array(7)), "7 of 8 bytes"],
  ] as const;
  for (const [lie, text] of get) {
    using s = session([lie]);
    assertThrows(() => s.device.deviceFeature(migDeviceState, "get", undefined, 4), ProtocolError, text);
  }
  const read = [
    [migration(COMMAND.migDataRead, 2, 17, 32), "size is 17"],
    [migration(COMMAND.migDataRead, 2, 8, 7), "size is 8 in 15 bytes"],
    [reply(COMMAND.migDataRead, 2, new Uint8Array(4)), "4 of 8 bytes"],
  ] as const;
  for (const [lie, text] of read) {
    using s = session([lie]);
    assertThrows(() => s.device.readMigrationData(16), ProtocolError, text);
  }
});

Deno.test("client MIG_DATA_READ, MIG_DATA_WRITE: parts that the server takes; an answer may have room to spare", () => {
  using s = session([
    migration(COMMAND.migDataRead, 2, 3, 64),
    migration(COMMAND.migDataRead, 3, 0),
    reply(COMMAND.migDataWrite, 4),
    reply(COMMAND.migDataWrite, 5),
  ]);
  assertEquals([...s.device.readMigrationData()], [0, 1, 2]);
  assertEquals(s.device.readMigrationData(16).byteLength, 0);
  s.device.writeMigrationData(Uint8Array.from({ length: 70 }, (_, i) => i));
  const [most, some, first, rest] = s.requests().slice(2);
  assertEquals([...most!.subarray(16)], [72, 0, 0, 0, 64, 0, 0, 0]);
  assertEquals([...some!.subarray(16)], [24, 0, 0, 0, 16, 0, 0, 0]);
  assertEquals(first!.byteLength, 16 + 8 + 64);
  assertEquals([...rest!.subarray(16)], [14, 0, 0, 0, 6, 0, 0, 0, 64, 65, 66, 67, 68, 69]);
  assertThrows(() => s.device.readMigrationData(0), UsageError);
});
