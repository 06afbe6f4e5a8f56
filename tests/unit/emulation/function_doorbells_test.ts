/** Doorbells exist for users: made, watched and let go with them. */
import { assertEquals, assertThrows } from "@std/assert";
import {
  EventFd,
  openFdCount,
  type OwnedFd,
  resourceLimit,
  RLIMIT,
  setSoftLimit,
  SyscallError,
} from "../../../ffi/mod.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { EmulatedFunction } from "../../../lib/emulation/emulated_function.ts";
import { DmaTable } from "../../../lib/sockets/dma_table.ts";

const BAR = 4;
const QUEUES = 3;

function networkFunction(): { fn: EmulatedFunction; watched: Map<OwnedFd, () => void>; log: string[] } {
  const watched = new Map<OwnedFd, () => void>();
  const log: string[] = [];
  const behaviour = createVirtioModels().createBehaviour("virtio-net", {
    address: "0000:01:00.0",
    mac: "52:54:00:00:00:01",
    queuePairs: 1,
  });
  const fn = new EmulatedFunction({ address: "0000:01:00.0", behaviour }, {
    violation: () => {},
    vfsAppear: () => {},
    vfsDisappear: () => {},
    vfsReset: () => {},
    vfMemorySpace: () => true,
    resampleChanged: () => {},
    watch: (fd, handler) => {
      if (watched.has(fd)) throw new Error("watched twice");
      watched.set(fd, handler);
    },
    unwatch: (fd) => {
      watched.delete(fd);
      log.push(fd.closed ? "closed before it was let go" : "let go");
    },
    touched: () => {},
    userChanged: (there) => log.push(there ? "came" : "left"),
  });
  return { fn, watched, log };
}

Deno.test("doorbells: none without a user; made when asked for, the same till the user goes, then let go and closed in this order", () => {
  const before = openFdCount();
  const { fn, watched, log } = networkFunction();
  assertEquals([fn.doorbells(BAR).length, watched.size, openFdCount()], [0, 0, before]);
  for (let user = 0; user < 3; user++) {
    fn.attached(new DmaTable());
    assertEquals(openFdCount(), before, "not before they are asked for");
    const doorbells = fn.doorbells(BAR);
    assertEquals([doorbells.length, watched.size, openFdCount()], [QUEUES, QUEUES, before + QUEUES]);
    assertEquals(fn.doorbells(BAR), doorbells);
    assertEquals([watched.size, openFdCount()], [QUEUES, before + QUEUES]);
    fn.detached();
    assertEquals([watched.size, openFdCount()], [0, before]);
    assertEquals(doorbells.filter(({ fd }) => !fd.closed), []);
    assertEquals(log.splice(0), ["came", "left", ...new Array(QUEUES).fill("let go")]);
  }
  fn.attached(new DmaTable());
  fn.doorbells(BAR);
  fn.close();
  assertEquals([watched.size, openFdCount()], [0, before]);
});

Deno.test("doorbells that cannot all be made are an error, and none is left", () => {
  const { fn, watched } = networkFunction();
  fn.attached(new DmaTable());
  const before = openFdCount();
  const { soft } = resourceLimit(RLIMIT.openFiles);
  const probe = new EventFd();
  const limit = probe.fd.number + QUEUES - 1;
  probe.close();
  setSoftLimit(RLIMIT.openFiles, limit);
  try {
    assertEquals(assertThrows(() => fn.doorbells(BAR), SyscallError).code, "EMFILE");
    assertEquals([watched.size, openFdCount()], [0, before]);
  } finally {
    setSoftLimit(RLIMIT.openFiles, soft);
  }
  assertEquals(fn.doorbells(BAR).length, QUEUES);
  fn.close();
});
