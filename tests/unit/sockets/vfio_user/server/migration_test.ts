/** The vfio-user server: a device that is moved. */
import { assert, assertEquals } from "@std/assert";
import { errnoNumber, makeDirectory, removeDirectory, UnixSocket } from "../../../../../ffi/mod.ts";
import { readTopology } from "../../../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../../../lib/emulation/machine.ts";
import { STRUCTURES_BAR } from "../../../../../lib/emulation/virtio/views/pci/layout.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { deviceFeature } from "../../../../../lib/vfio/kernel/abi.ts";
import {
  COMMAND,
  MIGRATION_STATE,
  migrationData,
  migrationState,
} from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { message, RawClient, type Reply, versionPayload } from "../raw_client.ts";
import { access, bench, EINVAL, EIO, ENOTSUP, ENOTTY } from "./bench.ts";

const { error, stop, running, stopCopy, resuming, preCopy } = MIGRATION_STATE;
const GET = 1 << 16, SET = 1 << 17, PROBE = 1 << 18;

type Call = (command: number, payload?: Uint8Array) => Pick<Reply, "error" | "payload">;

function feature(flags: number, data: number[] = [], argsz = 16): Uint8Array<ArrayBuffer> {
  const bytes = deviceFeature.encode({ argsz, flags }, data.length);
  bytes.set(data, deviceFeature.sizeBytes);
  return bytes;
}

/** As libvfio-user's client asks: no descriptor. @returns the error */
function go(call: Call, state: number): number {
  const request = feature(SET | 2, [state, 0, 0, 0, 255, 255, 255, 255]);
  const reply = call(COMMAND.deviceFeature, request);
  if (reply.error === 0) assertEquals([...reply.payload], [...request], "the reply repeats it");
  return reply.error;
}

function stateOf(call: Call): number {
  const { payload } = call(COMMAND.deviceFeature, feature(GET | 2));
  return migrationState.decode(payload.subarray(8)).deviceState;
}

/** Reads all of a state, `step` bytes at a time. */
function readAll(call: Call, step: number): number[] {
  const all: number[] = [];
  for (;;) {
    const { payload, error } = call(
      COMMAND.migDataRead,
      migrationData.encode({ argsz: 8 + step, size: step }),
    );
    assertEquals([error, migrationData.decode(payload).size], [0, payload.byteLength - 8]);
    if (payload.byteLength === 8) return all;
    all.push(...payload.subarray(8));
  }
}

function write(call: Call, data: readonly number[]): number {
  const bytes = migrationData.encode({ argsz: 8 + data.length, size: data.length }, data.length);
  bytes.set(data, 8);
  return call(COMMAND.migDataWrite, bytes).error;
}

function movable() {
  const log: string[] = [];
  let refuses = false;
  const migration = {
    setStopped: (stopped: boolean) => void log.push(stopped ? "stop" : "run"),
    save: () => Uint8Array.of(1, 2, 3, 4, 5, 6, 7),
    load: (state: Uint8Array) => {
      if (refuses) throw new UsageError("another device");
      log.push(`load ${[...state]}`);
    },
  };
  const b = bench();
  b.client.socket.close();
  b.server.handleReadable();
  b.device.migration = migration;
  const client = new RawClient(b.server);
  const call: Call = (command, payload) => client.call(command, payload);
  return { b, client, call, log, refuse: () => refuses = true };
}

Deno.test("server migration: STOP_COPY is offered; features can be probed; the others are not there", () => {
  const { b, client, call } = movable();
  using _ = b;
  using __ = client;
  const flags = call(COMMAND.deviceFeature, feature(GET | 1));
  assertEquals([...flags.payload.subarray(8)], [1, 0, 0, 0, 0, 0, 0, 0]);
  for (const probe of [1, GET | 1, 2, GET | 2, SET | 2, GET | SET | 2]) {
    const reply = call(COMMAND.deviceFeature, feature(PROBE | probe, [], 8));
    assertEquals([reply.error, ...reply.payload], [0, ...feature(PROBE | probe, [], 8)]);
  }
  for (
    const wrong of [
      feature(SET | 1),
      feature(1),
      feature(GET | SET | 2),
      feature(GET | 2, [], 15),
      feature(SET | 2),
    ]
  ) {
    assertEquals(call(COMMAND.deviceFeature, wrong).error, EINVAL);
  }
  assertEquals(call(COMMAND.deviceFeature, feature(GET | 6)).error, ENOTTY);
});

Deno.test("server migration: the way out of a device and into another, with what each state allows", () => {
  const { b, client, call, log } = movable();
  using _ = b;
  using __ = client;
  assertEquals(stateOf(call), running);
  assertEquals([go(call, preCopy), go(call, error), go(call, 77)], [EINVAL, EINVAL, EINVAL]);
  const ask = migrationData.encode({ argsz: 16, size: 8 });
  assertEquals([call(COMMAND.migDataRead, ask).error, write(call, [1])], [EINVAL, EINVAL]);
  assertEquals([go(call, stopCopy), log], [0, ["stop"]]);
  assertEquals(readAll(call, 3), [1, 2, 3, 4, 5, 6, 7]);
  assertEquals([go(call, stop), go(call, stopCopy)], [0, 0]);
  assertEquals(readAll(call, 100), [1, 2, 3, 4, 5, 6, 7], "from its beginning");
  const lies = [
    migrationData.encode({ argsz: 15, size: 8 }),
    migrationData.encode({ argsz: 1 << 30, size: 1 << 29 }),
    new Uint8Array(7),
  ];
  for (const one of lies) assertEquals(call(COMMAND.migDataRead, one).error, EINVAL);
  assertEquals([go(call, resuming), write(call, [9]), write(call, [8, 7]), stateOf(call)], [
    0,
    0,
    0,
    resuming,
  ]);
  assertEquals(call(COMMAND.migDataWrite, migrationData.encode({ argsz: 9, size: 2 }, 1)).error, EINVAL);
  assertEquals([go(call, running), log], [0, ["stop", "load 9,8,7", "run"]]);
  assertEquals([go(call, running), stateOf(call)], [0, running]);
});

Deno.test("server migration: a state that the device cannot have is an error state, which a reset ends", () => {
  const { b, client, call, log, refuse } = movable();
  using _ = b;
  using __ = client;
  refuse();
  assertEquals([go(call, resuming), write(call, [1]), go(call, running)], [0, 0, EINVAL]);
  assertEquals([stateOf(call), go(call, running), log], [error, EIO, ["stop"]]);
  assertEquals([call(COMMAND.deviceReset).error, stateOf(call), go(call, stop)], [0, running, 0]);
});

Deno.test("server migration: a device that cannot be moved says so", () => {
  using b = bench();
  const call: Call = (command, payload) => b.client.call(command, payload);
  assertEquals(call(COMMAND.deviceFeature, feature(GET | 1)).error, ENOTTY);
  assertEquals(call(COMMAND.migDataRead, migrationData.encode({ argsz: 16, size: 8 })).error, ENOTSUP);
  assertEquals(write(call, [1]), ENOTSUP);
});

Deno.test("server migration: a virtio function goes on as another one; one of another kind refuses", () => {
  const directory = `/tmp/ringside-move-${crypto.randomUUID().slice(0, 8)}`;
  makeDirectory(directory);
  const kinds = {
    "01:00.0": "virtio-rng",
    "02:00.0": "virtio-rng",
    "03:00.0": "virtio-net",
    "04:00.0": "virtio-console",
  };
  const topology = readTopology({
    functions: Object.entries(kinds).map(([address, kind]) => ({ address, kind, driver: "vfio-pci" })),
  });
  try {
    using machine = new EmulatedMachine({ topology, models: createVirtioModels(), directory });
    const open = (address: string) => {
      const socket = UnixSocket.connect(`${directory}/0000:${address}.sock`);
      const into = new Uint8Array(1 << 16);
      const call: Call = (command, payload) => {
        socket.send(message(command, payload));
        machine.step();
        const { length } = socket.receive(into)!;
        const error = new DataView(into.buffer).getUint32(12, true);
        return { error, payload: into.slice(16, length) };
      };
      assertEquals(call(COMMAND.version, versionPayload()).error, 0);
      return { call, [Symbol.dispose]: () => socket.close() };
    };
    using from = open("01:00.0");
    using to = open("02:00.0");
    using other = open("03:00.0");
    using fixed = open("04:00.0");
    const set = (call: Call, offset: number, bytes: number[]) =>
      assertEquals(
        call(COMMAND.regionWrite, access(BigInt(offset), STRUCTURES_BAR, bytes.length, bytes)).error,
        0,
      );
    const get = (
      call: Call,
      offset: number,
      count: number,
    ) => [...call(COMMAND.regionRead, access(BigInt(offset), STRUCTURES_BAR, count)).payload.subarray(16)];
    // The common configuration is at the start of its BAR: status, features (VERSION_1, ACCESS_PLATFORM), a queue's size and descriptor area.
    set(from.call, 20, [1]);
    set(from.call, 20, [3]);
    set(from.call, 8, [1, 0, 0, 0]);
    set(from.call, 12, [3, 0, 0, 0]);
    set(from.call, 20, [11]);
    set(from.call, 24, [16, 0]);
    set(from.call, 32, [0, 0x10, 0, 0]);
    const registers = (
      call: Call,
    ) => [...get(call, 8, 4), ...get(call, 20, 1), ...get(call, 24, 2), ...get(call, 32, 4)];
    const before = registers(from.call);
    assertEquals(before, [1, 0, 0, 0, 11, 16, 0, 0, 0x10, 0, 0]);
    assertEquals(go(from.call, stopCopy), 0);
    const state = readAll(from.call, 50);
    assert(state.length > 100);
    for (const [{ call }, result] of [[to, 0], [other, errnoNumber.ENOTSUP!]] as const) {
      assertEquals([go(call, resuming), write(call, state.slice(0, 60)), write(call, state.slice(60))], [
        0,
        0,
        0,
      ]);
      assertEquals(go(call, running), result);
    }
    assertEquals(registers(to.call), before);
    assertEquals(fixed.call(COMMAND.deviceFeature, feature(GET | 1)).error, ENOTTY);
  } finally {
    removeDirectory(directory);
  }
});
