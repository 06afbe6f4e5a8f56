import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  EventFd,
  makeDirectory,
  openFdCount,
  removeDirectory,
  SyscallError,
  UnixSocket,
} from "../../../ffi/mod.ts";
import { EventDispatcher } from "../../../lib/emulation/event_dispatcher.ts";
import { DriverIds } from "../../../lib/emulation/kernel_drivers.ts";
import { BusAddresses } from "../../../lib/emulation/bus_addresses.ts";
import { ExhaustedError } from "../../../lib/errors/mod.ts";
import { SysfsServer } from "../../../lib/emulation/sysfs_server.ts";
import { encodeFrame, FrameReader } from "./control_frames.ts";
import { type SysfsErrno, sysfsError, SysfsTree } from "../../../lib/emulation/sysfs_tree.ts";

Deno.test("a descriptor is not reported after unwatch, though its open file lives on elsewhere", () => {
  using events = new EventDispatcher();
  const fd = new EventFd();
  using held = new EventFd(fd.fd.duplicate());
  let rang = 0;
  events.watch(fd.fd, () => rang++);
  held.signal();
  assertEquals([events.dispatchBlocking(0), rang], [1, 1]);
  events.unwatch(fd.fd);
  fd.close();
  held.signal();
  assertEquals([events.dispatchBlocking(0), rang, events.size], [0, 1, 0]);
  events.unwatch(fd.fd);
});

Deno.test("a handler may unwatch what is ready in the same round", () => {
  using events = new EventDispatcher();
  using one = new EventFd();
  using two = new EventFd();
  let rang = 0;
  for (const [fd, other] of [[one, two], [two, one]] as const) {
    events.watch(fd.fd, () => {
      rang++;
      events.unwatch(other.fd);
    });
    fd.signal();
  }
  events.dispatchBlocking(0);
  assertEquals([rang, events.size], [1, 1]);
});

Deno.test("the control socket: answers come in order, also to requests that arrive in pieces or at once; a client that leaves is let go", () => {
  const before = openFdCount();
  const directory = `/tmp/ringside-events-${Deno.pid}`;
  makeDirectory(directory);
  {
    using events = new EventDispatcher();
    const tree = new SysfsTree();
    tree.constant("/a", "one\n");
    tree.attribute("/b", { write: (_, fail) => fail("ERANGE", "because") });
    using server = new SysfsServer(`${directory}/s`, tree, events);
    const dispatch = () => {
      while (events.dispatchBlocking(0) > 0);
    };
    const client = UnixSocket.connect(`${directory}/s`);
    client.setTimeoutMs(20_000);
    const requests = [
      encodeFrame({ op: "read", path: "/a" }),
      encodeFrame({ op: "write", path: "/b", text: "" }),
      encodeFrame({ op: "readBytes", path: "/a" }),
    ];
    const all = new Uint8Array(requests.reduce((sum, one) => sum + one.byteLength, 0));
    let at = 0;
    for (const one of requests) {
      all.set(one, at);
      at += one.byteLength;
    }
    client.send(all.subarray(0, 7));
    dispatch();
    client.send(all.subarray(7));
    dispatch();
    assertEquals(events.size, 2);
    const answers = new FrameReader();
    const buffer = new Uint8Array(4096);
    answers.push(buffer.subarray(0, client.receive(buffer)!.length));
    assertEquals(answers.next(), { ok: "one\n" });
    assertEquals(answers.next(), { errno: "ERANGE", call: "write", hint: "because" });
    assertEquals(answers.next(), { ok: btoa("one\n") });
    client.close();
    dispatch();
    assertEquals(events.size, 1);
    server.close();
    assertEquals(events.size, 0);
  }
  removeDirectory(directory);
  assertEquals(openFdCount(), before);
});

Deno.test("virtio-pci matches virtio's vendor from 0x1000 to 0x107f; a dynamic id may ask for subsystem and class", () => {
  const ids = new DriverIds();
  const identity = {
    vendorId: 0x1af4,
    subsystemVendorId: 1,
    subsystemId: 2,
    revision: 0,
    classCode: 0x020000,
  };
  const matches = (deviceId: number) => ids.match("virtio-pci", { ...identity, deviceId });
  assertEquals([0xfff, 0x1000, 0x107f, 0x1080].map(matches), [false, true, true, false]);
  assert(!ids.match("virtio-pci", { ...identity, vendorId: 0x8086, deviceId: 0x1041 }));
  assert(!ids.match("vfio-pci", { ...identity, deviceId: 0x1041 }));
  const fail = (errno: SysfsErrno) => {
    throw sysfsError(errno, "write", "new_id");
  };
  ids.add("vfio-pci", "1af4 1041 1 2 020000 ff0000", fail);
  assert(ids.match("vfio-pci", { ...identity, deviceId: 0x1041, classCode: 0x028000 }));
  assert(!ids.match("vfio-pci", { ...identity, deviceId: 0x1041, classCode: 0x010000 }));
  assert(!ids.match("vfio-pci", { ...identity, deviceId: 0x1041, subsystemId: 3 }));
  assertEquals(assertThrows(() => ids.add("vfio-pci", "1af4", fail), SyscallError).code, "EINVAL");
});

Deno.test("bus addresses: multiples of the size, VF copies back to back, ExhaustedError when a window is full", () => {
  const addresses = new BusAddresses();
  const bar = (sizeBytes: number) => ({ index: 0, sizeBytes, kind: "mem32", prefetchable: false }) as const;
  const [first] = addresses.assign([bar(4096)]);
  const [second] = addresses.assign([bar(65536)], 3);
  const [third] = addresses.assign([bar(4096)]);
  assertEquals([first!.address, second!.address, third!.address], [0xe000_0000n, 0xe001_0000n, 0xe004_0000n]);
  assertThrows(() => addresses.assign([bar(2 ** 30)]), ExhaustedError, "mem32");
});
