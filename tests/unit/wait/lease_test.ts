import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  accessible,
  EventFd,
  MappedMemory,
  mappingCount,
  openFdCount,
  Parcel,
  takeMapping,
} from "../../../ffi/mod.ts";
import { ClosedError, UsageError } from "../../../lib/errors/mod.ts";
import { Borrowing, Lease, reclaimLeases } from "../../../lib/wait/lease.ts";

const open = () => [openFdCount(), mappingCount().mappings];

/** A page that is lent, as a message would bring it. */
function lent() {
  const parcel = new Parcel();
  const area = parcel.addMapping(MappedMemory.anonymous(4096));
  const lease = new Lease("a page", parcel);
  return { lease, message: structuredClone({ area, lease: lease.lent }) };
}

Deno.test("what was lent and never opened is closed by its owner, and can be opened no more", () => {
  const before = open();
  const { lease, message } = lent();
  assertEquals(lease.state, "offered");
  lease[Symbol.dispose]();
  lease[Symbol.dispose]();
  assertEquals(lease.state, "ended");
  assertThrows(() => new Borrowing(message.lease), ClosedError, "a page: it was taken back by its owner");
  assertThrows(() => takeMapping(message.area), UsageError, "is no memory of this process");
  assertEquals(open(), before);
});

Deno.test("the borrower closes first: its pages go, and the owner has nothing left to close", () => {
  const before = open();
  const { lease, message } = lent();
  const borrowing = new Borrowing(message.lease);
  const memory = takeMapping(message.area);
  assertEquals([lease.state, borrowing.closed], ["taken", false]);
  borrowing[Symbol.dispose]();
  memory.close();
  assertEquals([lease.state, borrowing.closed], ["ended", true]);
  lease[Symbol.dispose]();
  assertEquals(open(), before);
});

Deno.test("the owner closes first: the borrower is told, and its pages stay mapped until it lets go", () => {
  const before = open();
  const { lease, message } = lent();
  const borrowing = new Borrowing(message.lease);
  const memory = takeMapping(message.area);
  borrowing.check();
  lease[Symbol.dispose]();
  assertEquals(lease.state, "withdrawn");
  assertEquals([borrowing.closed, borrowing.end.take()], [true, 1]);
  assertThrows(() => borrowing.check(), ClosedError, "a page: it was taken back by its owner");
  memory.bytes()[4095] = 7;
  assertEquals(memory.bytes()[4095], 7);
  assertEquals(reclaimLeases(), 1);
  borrowing[Symbol.dispose]();
  borrowing[Symbol.dispose]();
  memory.close();
  assertEquals([lease.state, reclaimLeases()], ["ended", 0]);
  assertEquals(open(), before);
});

Deno.test("a lease is for one thread, once", () => {
  const { lease, message } = lent();
  const borrowing = new Borrowing(message.lease);
  assertThrows(() => new Borrowing(message.lease), UsageError, "a page is taken already");
  borrowing[Symbol.dispose]();
  takeMapping(message.area).close();
  assertThrows(() => new Borrowing(message.lease), ClosedError);
  lease[Symbol.dispose]();
});

Deno.test("of a thread that has ended without closing, everything is let go of by the owner, once", () => {
  const before = open();
  const { lease, message } = lent();
  // As a Worker that was terminated leaves it: a thread of that number is not there.
  const word = new Int32Array(message.lease.word);
  word[0] = 0x3fff_ffff;
  assertEquals(lease.state, "taken");
  lease[Symbol.dispose]();
  assertEquals([lease.state, reclaimLeases()], ["ended", 0]);
  assertThrows(() => takeMapping(message.area), UsageError);
  assertEquals(open(), before);
  lease[Symbol.dispose]();
  assertEquals(open(), before);
});

Deno.test("what is no lease, no eventfd or no memory of this process is refused before it is touched", () => {
  const word = new SharedArrayBuffer(4);
  for (const bad of [null, {}, { what: "x", word: new ArrayBuffer(4), end: 0 }, { what: 1, word }]) {
    assertThrows(() => new Borrowing(bad as never), UsageError, "is no lease");
  }
  using other = MappedMemory.anonymous(4096);
  const number = other.address;
  const target = "x";
  for (
    const bad of [
      null,
      { address: 4096n, sizeBytes: 4096, target },
      { address: number, sizeBytes: 2 ** 40, target },
      { address: Number(number), sizeBytes: 4096, target },
      { address: number, sizeBytes: -1, target },
      { address: number, sizeBytes: 4096 },
    ]
  ) assertThrows(() => takeMapping(bad as never), UsageError, "is no memory of this process");
  for (const end of [{ fd: 0, target }, { fd: -1, target }, { fd: 1e6, target }, undefined]) {
    assertThrows(
      () => new Borrowing({ what: "x", word: new SharedArrayBuffer(4), end } as never),
      UsageError,
      "is no eventfd",
    );
  }
  assert(!other.closed);
});

Deno.test("a parcel that nobody gets is closed with all that is in it; a descriptor in it is a second one", () => {
  const before = open();
  const parcel = new Parcel();
  using eventFd = new EventFd();
  const { fd } = parcel.addFd(eventFd.fd);
  assert(accessible(`/proc/self/fd/${fd}`) && fd !== eventFd.fd.number);
  parcel.addMapping(MappedMemory.anonymous(4096));
  parcel.reclaim();
  parcel.reclaim();
  assert(!accessible(`/proc/self/fd/${fd}`));
  eventFd.signal();
  assertEquals(eventFd.take(), 1);
  eventFd.close();
  assertEquals(open(), before);
});
