/** Moves over the wire of functions whose rings are in use: MIG_DATA carries where the device stood, and each request is done once. */
import { assert, assertEquals } from "@std/assert";
import { createMemfd, makeDirectory, removeDirectory, removeFile } from "../../../../../ffi/mod.ts";
import { readTopology } from "../../../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../../../lib/emulation/machine.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { deviceFeature } from "../../../../../lib/vfio/kernel/abi.ts";
import { COMMAND, MIGRATION_STATE, migrationData } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { BASE, FakeClient, FakeRing, type Part } from "../../../emulation/virtio/fake_client.ts";
import { BROADCAST, frame, mac } from "../../../emulation/virtio/fake_nic.ts";
import { FakePackedRing } from "../../../emulation/virtio/fake_packed_ring.ts";
import { access, map } from "./bench.ts";
import { WireFunction } from "../wire_function.ts";

const BYTES = 1 << 18;
const SIZE = 16;
const ROUNDS = 12;
const NET_HEADER = 12;
type Ring = FakeRing | FakePackedRing;

/** A driver's memory in a file, which each function that serves it is given. */
class Driver implements Disposable {
  readonly #file = createMemfd("driver", BYTES);
  readonly client = new FakeClient(BYTES, BASE, this.#file);
  readonly rings: readonly Ring[];
  readonly features: bigint;
  #at: WireFunction | null = null;

  constructor(packed: boolean, queues: number) {
    this.features = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | (packed ? FEATURE.RING_PACKED : 0n);
    this.rings = Array.from(
      { length: queues },
      () => packed ? new FakePackedRing(this.client, SIZE - 3) : new FakeRing(this.client, SIZE),
    );
  }

  get at(): WireFunction {
    return this.#at!;
  }

  /** Gives a function the memory. */
  lend(to: WireFunction): WireFunction {
    const range = map({ address: BASE, size: BigInt(BYTES) });
    assertEquals(to.call(COMMAND.dmaMap, range, [this.#file]).error, 0);
    return this.#at = to;
  }

  start(on: WireFunction): void {
    this.lend(on).start(this.features, this.rings.map((ring, index) => ring.setup(index)));
  }

  /** Lets the machine work. */
  poll(): void {
    this.at.call(COMMAND.regionRead, access(0n, 7, 4));
  }

  [Symbol.dispose](): void {
    this.client[Symbol.dispose]();
    this.#file.close();
  }
}

function go(fn: WireFunction, state: number): void {
  const request = deviceFeature.encode({ argsz: 16, flags: 1 << 17 | 2 }, 8);
  request.set([state, 0, 0, 0, 255, 255, 255, 255], deviceFeature.sizeBytes);
  assertEquals(fn.call(COMMAND.deviceFeature, request).error, 0, `to state ${state}`);
}

/** What QEMU would do: stop, read, load into the other, run. The first is let go. @param meanwhile once it is stopped */
function move(driver: Driver, open: () => WireFunction, meanwhile: () => void): void {
  const from = driver.at;
  go(from, MIGRATION_STATE.stopCopy);
  meanwhile();
  const state: number[] = [];
  for (let more = true; more;) {
    const { payload } = from.call(COMMAND.migDataRead, migrationData.encode({ argsz: 108, size: 100 }));
    state.push(...payload.subarray(8));
    more = payload.byteLength > 8;
  }
  from[Symbol.dispose]();
  const to = driver.lend(open());
  go(to, MIGRATION_STATE.resuming);
  const data = migrationData.encode({ argsz: 8 + state.length, size: state.length }, state.length);
  data.set(state, 8);
  assertEquals(to.call(COMMAND.migDataWrite, data).error, 0);
  go(to, MIGRATION_STATE.running);
}

/** A machine of functions at 01:00.0, 02:00.0, …, opened by bus number. */
function machineOf(
  functions: readonly Record<string, unknown>[],
  test: (open: (bus: number) => WireFunction, machine: EmulatedMachine) => void,
): void {
  const directory = `/tmp/ringside-moves-${crypto.randomUUID().slice(0, 8)}`;
  makeDirectory(directory);
  const at = (i: number) => `0${i + 1}:00.0`;
  const topology = readTopology({
    functions: functions.map((one, i) => ({
      ...one,
      ...("file" in one ? { file: `${directory}/disk` } : {}),
      address: at(i),
      driver: "vfio-pci",
    })),
  });
  try {
    using machine = new EmulatedMachine({ topology, models: createVirtioModels(), directory });
    test((bus) => new WireFunction(machine, `${directory}/0000:0${bus}:00.0.sock`), machine);
  } finally {
    removeFile(`${directory}/disk`);
    removeDirectory(directory);
  }
}

for (const packed of [false, true]) {
  const layout = packed ? "packed" : "split";
  Deno.test(`3.6 ${layout}: a network function that is moved over the wire sends and gets each frame once`, () => {
    const net = { kind: "virtio-net", totalVfs: 0, switch: "s0" };
    machineOf([net, net, net, net], (open, machine) => {
      using a = new Driver(packed, 2);
      using b = new Driver(packed, 2);
      const slots = a.client.allocate(BYTES / 2);
      assertEquals(b.client.allocate(BYTES / 2), slots);
      const part = (i: number, length: number, write: boolean): Part[] => [
        { iova: a.client.at(slots + 256 * i), length, write },
      ];
      a.start(open(1));
      b.start(open(3));
      let serial = 0, posted = 0, senderAt = 1, receiverAt = 3;
      const got: number[] = [], buffers = new Map<number, number>();
      let returned = 0;
      const send = (count: number) => {
        for (; count > 0; count--) {
          const place = slots + 256 * (serial % 64);
          a.client.bytes.fill(0, place, place + NET_HEADER);
          a.client.bytes.set(frame(BROADCAST, mac(1), 60), place + NET_HEADER);
          a.client.view.setUint32(place + NET_HEADER + 14, serial, true);
          a.rings[1]!.add(part(serial++ % 64, NET_HEADER + 60, false));
        }
        a.rings[1]!.publish();
      };
      const post = () => {
        for (; posted < 8; posted++) {
          const i = [...Array(16).keys()].find((one) => ![...buffers.values()].includes(one))!;
          buffers.set(b.rings[0]!.add(part(i, 256, true)), i);
        }
        b.rings[0]!.publish();
      };
      const collect = () => {
        for (const { id } of b.rings[0]!.takeUsed()) {
          const place = slots + 256 * buffers.get(id)!;
          got.push(b.client.view.getUint32(place + NET_HEADER + 14, true));
          buffers.delete(id);
          posted--;
        }
        returned += a.rings[1]!.takeUsed().length;
      };
      post();
      for (let round = 0; round < ROUNDS; round++) {
        send(2);
        // The sender moves with frames before and after its stop, the receiver with buffers.
        if (round % 2 === 0) move(a, () => open(senderAt = 3 - senderAt), () => send(3));
        collect();
        post();
        for (let i = 0; i < 3; i++) a.poll();
        collect();
        if (round % 2 === 1) move(b, () => open(receiverAt = 7 - receiverAt), post);
        post();
      }
      assertEquals([got, returned], [Array.from({ length: serial }, (_, i) => i), serial]);
      assertEquals(machine.violations.toText(), "");
      a.at[Symbol.dispose]();
      b.at[Symbol.dispose]();
    });
  });

  Deno.test(`3.6 ${layout}: a disk that is moved over the wire does each request once`, () => {
    const disk = { kind: "virtio-blk", file: "", sizeBytes: 1 << 20 };
    machineOf([disk, disk], (open, machine) => {
      using driver = new Driver(packed, 1);
      const { client } = driver;
      const [ring] = driver.rings;
      const headers = client.allocate(16 * 64),
        data = client.allocate(512 * 64),
        status = client.allocate(64);
      driver.start(open(1));
      let asked = 0, done = 0, at = 1;
      /** Every second request reads what the one before it wrote. */
      const ask = (count: number) => {
        for (; count > 0; count--, asked++) {
          const slot = asked % 64, reads = asked % 2 === 1;
          client.view.setUint32(headers + 16 * slot, reads ? 0 : 1, true);
          client.view.setBigUint64(headers + 16 * slot + 8, BigInt(asked >> 1), true);
          client.bytes.fill(reads ? 0 : (asked >> 1) + 1, data + 512 * slot, data + 512 * (slot + 1));
          client.bytes[status + slot] = 0xff;
          ring!.add([
            { iova: client.at(headers + 16 * slot), length: 16 },
            { iova: client.at(data + 512 * slot), length: 512, write: reads },
            { iova: client.at(status + slot), length: 1, write: true },
          ]);
        }
        ring!.publish();
      };
      const collect = () => {
        for (const _ of ring!.takeUsed()) {
          const slot = done % 64;
          assertEquals(client.bytes[status + slot], 0, `request ${done}`);
          const bytes = client.bytes.subarray(data + 512 * slot, data + 512 * (slot + 1));
          assert(bytes.every((one) => one === ((done >> 1) + 1 & 0xff)), `request ${done}`);
          done++;
        }
        assert(done <= asked);
      };
      for (let round = 0; round < ROUNDS; round++) {
        ask(2);
        move(driver, () => open(at = 3 - at), () => {
          collect();
          const before = done;
          ask(2);
          driver.poll();
          collect();
          assertEquals(done, before, "a stopped device does nothing");
        });
        driver.poll();
        collect();
        assertEquals(done, asked);
      }
      assertEquals([done, machine.violations.toText()], [4 * ROUNDS, ""]);
      driver.at[Symbol.dispose]();
    });
  });
}
