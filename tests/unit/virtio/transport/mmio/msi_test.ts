import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { EventFd, openFdCount } from "../../../../../ffi/mod.ts";
import { DeviceError, UnsupportedError, UsageError } from "../../../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../../../lib/virtio/device.ts";
import { bindInterrupts } from "../../../../../lib/virtio/interrupts.ts";
import { openMmio } from "../../../../../lib/virtio/transport/mmio/open.ts";
import type { MmioOptions } from "../../../../../lib/virtio/transport/mmio/transport.ts";
import { FakeMmio, type FakeMmioOptions } from "./fake_mmio.ts";

const bit = (n: number) => 1n << BigInt(n);
/** What every device of profile `mmio-msi-v2` here offers: VERSION_1, MMIO_NOTIFICATION, MMIO_MSI. */
const V2 = { form: "msi-v2", features: bit(32) | bit(39) | bit(40) } as const;
const SHARING = { ...V2, sharing: true } as const;
const V3 = { form: "v3" } as const;
const DRAFTS: readonly FakeMmioOptions[] = [V3, V2, SHARING];

/** A device with two queues, negotiated. */
function negotiated(fake: FakeMmioOptions, options: MmioOptions = {}) {
  const mmio = new FakeMmio({ queueSizes: [8, 8], messages: 8, ...fake });
  const profile = mmio.form === "v3" ? "mmio-v3" : "mmio-msi-v2";
  const transport = openMmio(mmio, { profile, ...options });
  const device = new VirtioDevice(transport);
  device.negotiate();
  mmio.taken();
  return {
    mmio,
    transport,
    device,
    /** Interrupts, two queues, DRIVER_OK. */
    start(choice: "auto" | "msi" | "intx" = "auto") {
      const bound = bindInterrupts(transport, choice, [0, 1]);
      for (const queue of [0, 1]) device.createQueue(queue, { size: 8, vector: bound.queueVector(queue) });
      device.driverOk();
      return bound;
    },
    [Symbol.dispose]() {
      device.close();
      transport.close();
      mmio[Symbol.dispose]();
    },
  };
}

/** The writes that concern MSI, QueueReady and Status. */
function told(mmio: FakeMmio): string[] {
  return mmio.taken().filter((one) => /@(44|70|30|c.|d.)=/.test(one));
}

/** How often each vector was signalled. */
function counts(vectors: readonly { eventFd: { take(): number } }[]): number[] {
  return vectors.map(({ eventFd }) => eventFd.take());
}

Deno.test("N-7.4, A-7.12, A-7.16 version 3: address, data, UPDATE of each vector before its QueueReady, then ENABLE, then DRIVER_OK", () => {
  using t = negotiated(V3);
  const bound = t.start();
  assertEquals([bound.kind, bound.vectors.length], ["msi", 3]);
  const update = (data: number, vector: number) => [
    ...["w4@c4=fee00000", "w4@c8=0", `w4@cc=${data.toString(16)}`],
    `w2@c2=${(0x1000 | vector).toString(16)}`,
  ];
  const counted = [0, 1, 2].map((queue) => `w4@30=${queue}`);
  assertEquals(told(t.mmio), [
    ...counted,
    ...update(0x20, 0),
    "w4@30=0", // size
    ...update(0x21, 1),
    ...["w4@30=0", "w4@44=1"],
    "w4@30=1",
    ...update(0x22, 2),
    ...["w4@30=1", "w4@44=1"],
    ...["w2@c2=2001", "w4@70=f"],
  ]);
  t.mmio.raise(1);
  t.mmio.raise("config");
  assertEquals([counts(bound.vectors), t.mmio.stray], [[1, 0, 1], []]);
});

Deno.test("N-7.4, A-7.12, A-7.10 version 2 without sharing: select, mask, address, data, CONFIGURE, unmask; ENABLE last; no MAP (N-7.9)", () => {
  using t = negotiated(V2);
  const bound = t.start();
  const configure = (vector: number) => [
    ...[`w4@d0=${vector}`, "w4@c8=4"],
    ...["w4@d4=fee00000", "w4@d8=0", `w4@dc=${(0x20 + vector).toString(16)}`],
    ...["w4@c8=3", "w4@c8=5"],
  ];
  assertEquals(told(t.mmio).filter((one) => !one.startsWith("w4@30")), [
    ...configure(0),
    ...configure(1),
    "w4@44=1",
    ...configure(2),
    "w4@44=1",
    ...["w4@c8=1", "w4@70=f"],
  ]);
  t.mmio.raise(0);
  t.mmio.raise("config");
  assertEquals([counts(bound.vectors), t.mmio.stray], [[1, 1, 0], []]);
});

Deno.test("N-7.9 version 2 with sharing: each vector is configured once, MAP_CONFIG and MAP_QUEUE say who raises it", () => {
  using t = negotiated({ ...SHARING, vectors: 2 });
  assertEquals(t.transport.interruptCount("msi"), 2);
  const bound = t.start();
  assertEquals(bound.vectors.length, 2, "config, and one for all queues");
  const writes = told(t.mmio);
  assertEquals(writes.filter((one) => one === "w4@c8=3").length, 2, "CONFIGURE");
  assertEquals(writes.filter((one) => one.startsWith("w4@d0") || /c8=[67]/.test(one)), [
    ...["w4@d0=0", "w4@d0=0", "w4@c8=6"],
    ...["w4@d0=1", "w4@d0=1", "w4@c8=7"],
    ...["w4@d0=1", "w4@c8=7"],
  ]);
  assertEquals(t.mmio.queues.map(({ vector }) => vector), [1, 1]);
  t.mmio.raise(0);
  t.mmio.raise(1);
  t.mmio.raise("config");
  assertEquals(counts(bound.vectors), [1, 2]);
});

Deno.test("N-7.5 no vector: sharing maps the source on NO_VECTOR, without it the vector is masked; version 3 has no way back", () => {
  using sharing = negotiated(SHARING);
  sharing.start();
  sharing.transport.setQueueVector(0, null);
  sharing.transport.setConfigVector(null);
  assertEquals([sharing.mmio.queues[0]!.vector, sharing.mmio.configVector], [0xffff_ffff, 0xffff_ffff]);
  using fixed = negotiated(V2);
  const bound = fixed.start();
  fixed.transport.setQueueVector(0, null);
  fixed.mmio.raise(0);
  assertEquals([fixed.mmio.vectors[1]!.masked, counts(bound.vectors)], [true, [0, 0, 0]]);
  assertEquals(fixed.transport.queueView(0).vector, null);
  fixed.transport.setQueueVector(0, 2);
  assertEquals(
    [counts(bound.vectors), fixed.transport.queueView(0).vector],
    [[0, 0, 1], 2],
    "kept, and delivered once",
  );
  fixed.transport.setQueueVector(0, null);
  fixed.transport.setQueueVector(0, 2);
  fixed.mmio.raise(0);
  assertEquals(counts(bound.vectors), [0, 0, 1], "the vector that it had before");
  using v3 = negotiated(V3);
  v3.transport.enableInterrupts("msi", 1);
  v3.mmio.taken();
  v3.transport.setQueueVector(1, null);
  assertEquals(told(v3.mmio), [], "it had none");
  v3.transport.setQueueVector(1, 0);
  assertThrows(() => v3.transport.setQueueVector(1, null), UnsupportedError, "takes a vector away");
});

Deno.test("N-7.4 version 3: a change of vectors that cannot be made leaves MSI on, and loses nothing", () => {
  using t = negotiated(V3);
  const { vectors } = t.start();
  // An event of queue 0 comes while MSI is off.
  t.mmio.after = (entry) => {
    if (entry === "w2@c2=2000") t.mmio.raise(0);
  };
  assertThrows(() => t.transport.setQueueVector(0, null), UnsupportedError, "takes a vector away");
  assertEquals([t.mmio.msiEnabled, t.transport.interruptKind], [true, "msi"]);
  assertEquals(counts(vectors), [1, 1, 1], "nobody knows whose it was");
  t.transport.setQueueVector(0, 2);
  assertEquals(counts(vectors), [1, 1, 1], "nor with a change that can be made (A-7.12)");
  t.transport.setQueueVector(0, 1);
  t.mmio.after = () => {};
  counts(vectors);
  t.mmio.raise(0);
  assertEquals([counts(vectors)[1], t.transport.queueView(0).vector], [1, 1]);
});

Deno.test("N-7.2 with MSI on InterruptStatus and InterruptACK are left alone, and undefined bits of MsiStatus and MsiState mean nothing", () => {
  for (const draft of DRAFTS) {
    using t = negotiated(draft);
    // All bits that the drafts do not define.
    t.mmio.lie = (offset, _, value) =>
      t.mmio.form === "v3" && offset === 0xc0
        ? value | 0x7800
        : t.mmio.form === "msi-v2" && offset === 0xc4
        ? value | 0xffff_fffc
        : value;
    const bound = t.start();
    assertEquals([bound.kind, t.mmio.msiEnabled], ["msi", true]);
    // The fake throws at any access to 0x060 and 0x064 now.
    assertEquals(bound.vectors.map((vector) => vector.acknowledge()), [3, 3, 3]);
    assertEquals(t.transport.readInterruptStatus(), 3);
  }
});

Deno.test("N-7.3 a device whose MSI does not come on: it is turned off, and the line raises the first vector, acknowledged as a line is", () => {
  for (const draft of DRAFTS) {
    const before = openFdCount();
    {
      using t = negotiated(draft);
      t.mmio.refusesMsi = true;
      const bound = t.start();
      assertEquals([bound.kind, t.transport.interruptKind], ["intx", "intx"]);
      const off = draft.form === "v3" ? ["w2@c2=2001", "w2@c2=2000"] : ["w4@c8=1", "w4@c8=2"];
      assertEquals(told(t.mmio).slice(-3), [...off, "w4@70=f"]);
      t.mmio.raise(1);
      t.mmio.raise("config");
      assertEquals(counts(bound.vectors), [2, 0, 0]);
      assertEquals(bound.vectors[0]!.acknowledge(), 3);
      assertEquals([t.mmio.interruptStatus, t.mmio.interrupts.rearmed], [0, 1]);
      // Vectors that are set again, as after the reset of a queue, are the line's.
      t.transport.setQueueVector(1, 2);
      t.transport.disableInterrupts();
      assertEquals([t.mmio.interrupts.kind, t.mmio.allotted.size], [null, 0]);
    }
    assertEquals(openFdCount(), before);
  }
});

Deno.test("N-7.3 a vector that the device does not have after all: MSI is turned off, and the line raises the first vector", () => {
  for (const draft of DRAFTS) {
    using t = negotiated(draft);
    const { vectors, kind } = bindInterrupts(t.transport, "msi", [0, 1]);
    assertEquals(kind, "msi");
    t.mmio.taken();
    // A queue that there is not has no vector where the mapping is fixed; where it is not, MsiVecNum becomes smaller.
    t.mmio.lie = (offset, _, value) => draft.sharing && offset === 0xc0 ? 1 : value;
    t.transport.setQueueVector(draft.sharing ? 1 : 2, 1);
    assertEquals(t.transport.interruptKind, "intx");
    assertEquals(told(t.mmio).at(-1), draft.form === "v3" ? "w2@c2=2000" : "w4@c8=2");
    t.mmio.raise(1);
    assertEquals(counts(vectors), [1, 0, 0]);
  }
});

Deno.test("N-7.3 neither messages nor a line: the device is told that its driver gave up, and the error says that polling is left", () => {
  for (const draft of DRAFTS) {
    using t = negotiated(draft);
    t.mmio.refusesMsi = true;
    t.mmio.interrupts.count = 0;
    const error = assertThrows(() => t.start(), DeviceError, "there is no line");
    assertEquals(error.hint, "poll");
    assertEquals(t.mmio.status & 0x84, 0x80, "FAILED, and not DRIVER_OK");
    t.transport.disableInterrupts();
    t.mmio.interrupts.count = 1;
    t.mmio.refusesMsi = false;
    t.device.negotiate();
    assertEquals(t.start().kind, "msi", "usable after a reset");
  }
});

Deno.test("N-7.3 too few vectors, no messages, MMIO_MSI not offered: `auto` takes the line, `msi` is refused with the reason", () => {
  const lacks: [FakeMmioOptions, string][] = [
    [{ ...V2, vectors: 2 }, "MsiVecNum is 2, which is too few for 2 queues"],
    [{ ...SHARING, vectors: 0 }, "MsiVecNum is 0"],
    [{ ...V2, features: bit(32) }, "VIRTIO_F_MMIO_MSI was not negotiated"],
    [{ ...V3, messages: undefined }, "nobody says where messages go"],
    [{ ...V2, messages: undefined }, "nobody says where messages go"],
  ];
  for (const [fake, reason] of lacks) {
    using t = negotiated(fake);
    assertEquals(t.transport.interruptCount("msi"), 0, reason);
    const error = assertThrows(() => bindInterrupts(t.transport, "msi", [0]), UnsupportedError, "has no MSI");
    assertStringIncludes(error.hint, reason);
    assertEquals(t.start().kind, "intx");
  }
});

Deno.test("N-7.3 messages that somebody else takes meanwhile: the line", () => {
  using t = negotiated(V3);
  const { messages } = t.mmio;
  const { allot } = messages!;
  messages!.allot = (eventFd) => {
    if (t.mmio.allotted.size === 2) {
      eventFd?.close();
      throw new UnsupportedError("all are in use");
    }
    return allot(eventFd);
  };
  const before = openFdCount();
  const bound = t.start("msi");
  assertEquals([bound.kind, t.mmio.allotted.size, bound.vectors.length], ["intx", 0, 1]);
  t.transport.disableInterrupts();
  assertEquals(openFdCount(), before);
});

Deno.test("A-7.5 MSI is turned on by MsiCmd, or by bit 15 of MsiStatus where the caller says so; off in the same way", () => {
  for (
    const [msiEnableByStatus, on, off] of [[false, "w2@c2=2001", "w2@c2=2000"], [
      true,
      "w2@c0=8002",
      "w2@c0=2",
    ]] as const
  ) {
    using t = negotiated(V3, { msiEnableByStatus });
    t.start();
    assert(t.mmio.msiEnabled);
    assertEquals(told(t.mmio).slice(-2), [on, "w4@70=f"]);
    t.transport.disableInterrupts();
    assertEquals([told(t.mmio), t.mmio.msiEnabled], [[off], false]);
  }
});

Deno.test("A-7.6 bit 15 of MsiStatus is a state: 0 before ENABLE does not say that there is no MSI, 1 does not say that it is on", () => {
  for (const stale of [false, true]) {
    using t = negotiated(V3);
    t.mmio.msiEnabled = stale;
    assertEquals(t.transport.interruptCount("msi"), 3);
    t.start();
    assert(told(t.mmio).includes("w2@c2=2001"), "ENABLE is written whatever it was");
  }
});

Deno.test("A-7.7 version 3: a device with more queues than MsiStatus speaks of has vectors for some only, and is driven by its line", () => {
  using t = negotiated(V3);
  t.mmio.maxQueues = 1;
  assertEquals(t.transport.interruptCount("msi"), 0);
  assertStringIncludes(t.transport.interruptLack!, "MsiStatus speaks of 1 queues, and there are 2");
  // Bits that the draft does not define are no part of the number (N-7.2).
  t.mmio.lie = (offset, _, value) => offset === 0xc0 ? value | 0x7800 : value;
  assertStringIncludes(t.transport.interruptLack!, "MsiStatus speaks of 1 queues, and there are 2");
  assertEquals(t.start().kind, "intx");
});

Deno.test("A-7.9 MsiState in the places of the specification's patch, or of Linux where the caller says so", () => {
  for (const sharing of [false, true]) {
    using t = negotiated({ ...V2, sharing, linuxBits: true }, { msiStateBits: "linux" });
    assertEquals([t.start().kind, t.mmio.configVector], ["msi", sharing ? 0 : 0xffff_ffff]);
    using other = negotiated({ ...V2, sharing, linuxBits: true });
    assertEquals(other.start().kind, "intx", "read in the wrong places, MSI never comes on");
  }
});

Deno.test("A-7.11 DISABLE is sent when interrupts are turned off and when the transport is closed, before messages are given back", () => {
  for (const close of [false, true]) {
    for (const draft of DRAFTS) {
      using t = negotiated(draft);
      t.start();
      t.mmio.taken();
      let allotted = -1;
      const off = draft.form === "v3" ? "w2@c2=2000" : "w4@c8=2";
      t.mmio.after = (entry) => {
        if (entry === off) allotted = t.mmio.allotted.size;
      };
      if (close) t.transport.close();
      else t.transport.disableInterrupts();
      assertEquals([allotted, t.mmio.allotted.size], [3, 0]);
      assertEquals(told(t.mmio), close ? ["w4@70=0", off] : [off]);
    }
  }
});

Deno.test("A-7.12 a vector that changes while MSI is on: masked (version 2) or MSI off (version 3) meanwhile; nothing is lost or misdirected", () => {
  for (const draft of DRAFTS) {
    using t = negotiated(draft);
    const { vectors } = t.start();
    t.mmio.taken();
    // An event of queue 0 comes after each write.
    let raised = 0;
    t.mmio.after = (entry) => {
      if (!entry.startsWith("w") || raised < 0) return;
      raised++;
      t.mmio.raise(0);
    };
    t.transport.setQueueVector(0, 2);
    const seen = raised;
    raised = -1;
    const [, old, now] = counts(vectors);
    assertEquals(t.mmio.stray, []);
    assert(seen > 0 && old! + now! > 0 && now! > 0, `${draft.form}: ${seen} raised, ${old} and ${now} came`);
    assertEquals(t.mmio.msiEnabled, true);
    t.mmio.raise(0);
    assertEquals(counts(vectors).slice(1), [0, 1]);
    const writes = told(t.mmio);
    if (draft.form === "v3") {
      assertEquals([writes.at(0), writes.at(-2), writes.at(-1)], ["w2@c2=2000", "w2@c2=1001", "w2@c2=2001"]);
    } else if (draft.sharing) assertEquals(writes, ["w4@30=0", "w4@d0=2", "w4@c8=7"], "mapped in one step");
    else {
      assertEquals([writes.at(0), writes.at(1), writes.at(-2), writes.at(-1)], [
        "w4@d0=1",
        "w4@c8=4",
        "w4@c8=3",
        "w4@c8=5",
      ]);
    }
  }
});

Deno.test("N-7.1 a reset forgets vectors: they are programmed again, and turned on again at DRIVER_OK", () => {
  for (const draft of DRAFTS) {
    using t = negotiated(draft);
    const bound = t.start();
    t.device.negotiate();
    assertEquals(t.mmio.msiEnabled, false);
    t.transport.setConfigVector(0);
    for (const queue of [0, 1]) t.device.createQueue(queue, { size: 8, vector: bound.queueVector(queue) });
    t.device.driverOk();
    t.mmio.raise(0);
    t.mmio.raise(1);
    assertEquals([t.mmio.msiEnabled, counts(bound.vectors), t.mmio.stray], [true, [0, 1, 1], []]);
    // A caller's own write of 0 is a reset, too.
    t.transport.writeStatus(0);
    assertEquals([0, 1].map((queue) => t.transport.queueView(queue).vector), [null, null]);
    t.transport.writeDriverFeatures(t.device.features);
    for (const queue of [0, 1]) t.transport.setQueueVector(queue, bound.queueVector(queue)!);
    t.transport.writeStatus(0xf);
    t.mmio.raise(0);
    assertEquals([t.mmio.msiEnabled, counts(bound.vectors), t.mmio.stray], [true, [0, 1, 0], []]);
  }
});

Deno.test("7.2, 7.3 vectors that are none, kinds that are on already, eventfds of the caller's", () => {
  for (const draft of DRAFTS) {
    using t = negotiated(draft);
    assertThrows(() => t.transport.setQueueVector(0, 0), UsageError, "only while MSI");
    assertThrows(() => t.transport.enableInterrupts("msi", 9), UnsupportedError, "9 are wanted");
    assertThrows(() => t.transport.enableInterrupts("msix", 1), UnsupportedError);
    t.transport.enableInterrupts("msi", 2);
    assertThrows(() => t.transport.enableInterrupts("intx", 1), UsageError, "msi interrupts are on already");
    for (const vector of [2, -1, 1.5, NaN]) {
      assertThrows(() => t.transport.setQueueVector(0, vector), UsageError, "no MSI vector");
    }
    assertThrows(() => t.transport.setQueueVector(-1, 0), UsageError);
  }
});

Deno.test("7.2, 7.3 counts that are none: a UsageError, and eventfds of the caller's are closed", () => {
  const before = openFdCount();
  for (const fake of [...DRAFTS, { form: "modern" }, { ...V2, messages: undefined }] as const) {
    using t = negotiated(fake, fake.form === "modern" ? { profile: "spec" } : {});
    for (const kind of ["msi", "intx", "msix"] as const) {
      for (const count of [0, -1, 1.5, NaN, "1" as unknown as number]) {
        assertThrows(() => t.transport.enableInterrupts(kind, count, [new EventFd()]), UsageError, "a003e00");
      }
    }
    assertEquals(t.transport.interruptKind, "none");
  }
  assertEquals(openFdCount(), before);
});

Deno.test("A-7.3 what collides with the standard is refused by its two meanings", () => {
  for (const draft of [V3, V2]) {
    using t = negotiated({ ...draft, features: V2.features });
    const error = assertThrows(() => t.transport.resetQueue!(0), UnsupportedError, "0x0c0 is QueueReset");
    assertStringIncludes(error.message, draft.form === "v3" ? "MsiStatus" : "MsiVecNum");
    if (draft.form === "v3") {
      assertEquals(t.transport.readDeviceFeatures(), bit(32), "neither 39 nor 40 is shown");
      const refused = assertThrows(() => t.transport.writeDriverFeatures(bit(32) | bit(40)), UsageError);
      assertStringIncludes(
        refused.message,
        "QueueReset in the standard, with VIRTIO_F_RING_RESET, and MsiStatus",
      );
      assertThrows(() => t.transport.writeDriverFeatures(bit(32) | bit(39)), UsageError, "NOTIF_CONFIG_DATA");
    } else {
      assertEquals(t.device.features, V2.features, "MMIO_NOTIFICATION and MMIO_MSI");
    }
  }
});

Deno.test("A-7.12 10^4 events while vectors change: each arrives at the vector that its source had, and none is lost", () => {
  let seed = 0x5eed;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) & 0x7fff_ffff) % below;
  for (const draft of [V2, SHARING]) {
    using t = negotiated(draft);
    const { vectors } = t.start();
    const vectorOf = new Map<number | "config", number>([["config", 0], [0, 1], [1, 2]]);
    const sources = ["config", 0, 1] as const;
    const expected = [0, 0, 0], came = [0, 0, 0];
    let pending: { source: number | "config"; raised: boolean } | null = null;
    t.mmio.after = (entry) => {
      // While it is masked: kept, and delivered at the place that it has afterwards.
      if (pending === null || pending.raised || entry !== "w4@c8=4") return;
      pending.raised = true;
      t.mmio.raise(pending.source);
      t.mmio.raise(pending.source);
    };
    for (let step = 0; step < 5000; step++) {
      const source = sources[random(3)]!, vector = random(3);
      if (random(3) > 0) {
        t.mmio.raise(source);
        expected[vectorOf.get(source)!]!++;
      } else {
        pending = { source, raised: false };
        if (source === "config") t.transport.setConfigVector(vector);
        else t.transport.setQueueVector(source, vector);
        vectorOf.set(source, vector);
        // Two events while masked are one message.
        if (pending.raised) expected[vector]!++;
        pending = null;
      }
      counts(vectors).forEach((count, at) => came[at]! += count);
      assertEquals(came, expected, `${draft.form} step ${step}`);
    }
    assertEquals(t.mmio.stray, []);
  }
});
