import { assert, assertEquals, assertThrows } from "@std/assert";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { DeviceError, UsageError } from "../../../lib/errors/mod.ts";
import { FEATURE, openMmio } from "../../../lib/virtio/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { PROFILE_OF } from "../transports/matrix.ts";
import { BlkByHand } from "./blk_by_hand.ts";
import { WatchedWindow } from "./watched_window.ts";

const QUEUES = 2;
const FORMS = ["v3", "msi-v2"] as const;
/** The lowest and the highest that there can be among them; a gap between registers; multiples of 4, of 2, and of nothing. */
const BASES = [0x50, 0x0d0, 0x200, 0x202, 0x1000, 0xfff, 0xfffc, 0xfffe, 0xffff];
const MULTIPLIERS = [0, 2, 4, 6, 1, 3, 4096, 0xfffc, 0xfffe, 0xffff];

interface Place {
  readonly base: number;
  readonly multiplier: number;
}

/** 32 bits only at multiples of 4. */
function wide({ base, multiplier }: Place): boolean {
  return base % 4 === 0 && multiplier % 4 === 0;
}

const PLACES = BASES.flatMap((base) => MULTIPLIERS.map((multiplier): Place => ({ base, multiplier })));

interface Case extends Place {
  readonly address: string;
  readonly form: typeof FORMS[number];
  readonly data: boolean;
  readonly entry: Record<string, unknown>;
}

function caseOf(place: Place, at: number, data: boolean): Case {
  // Every place over one of the forms, in turn.
  const form = FORMS[at % 2]!;
  const address = `${(0x1000_0000 + at * 0x10_0000 + (data ? 0x1000_0000 : 0)).toString(16)}.virtio_mmio`;
  return {
    ...place,
    address,
    form,
    data,
    entry: {
      address,
      kind: "virtio-blk",
      sizeBytes: 4096,
      queues: QUEUES,
      ...(data ? { featuresOn: ["VIRTIO_F_NOTIFICATION_DATA"] } : {}),
      mmio: { form, notify: place },
    },
  };
}

/** What the device's side says of it. */
function refusal({ entry }: Case): string | undefined {
  const { kind, mmio, ...own } = entry;
  try {
    createVirtioModels().createPlatformBehaviour!(kind as string, { ...own, mmio } as never).close();
    return undefined;
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return error.message;
  }
}

const CASES = PLACES.flatMap((place, at) =>
  [false, true].map((data) => {
    const one = caseOf(place, at, data);
    return { ...one, refused: refusal(one) };
  })
);

Deno.test("A-7.14: places where doorbells cannot be are refused, with the reason, and no others", () => {
  for (const { base, multiplier, data, refused, form, address } of CASES) {
    const reason = base === 0x50 && [1, 2, 3].includes(multiplier)
      ? `the doorbell of queue 1 would be at 0x${(base + multiplier).toString(16)}, where QueueNotify is`
      : base === 0xd0 && form === "msi-v2"
      ? "the doorbell of queue 0 would be at 0xd0, where MsiVecSel is"
      : data && !wide({ base, multiplier })
      ? "NOTIFICATION_DATA needs multiples of 4 (A-7.14)"
      : undefined;
    assertEquals(refused, reason && `${address}: mmio.notify: ${reason}`);
  }
  assert(CASES.filter(({ refused }) => refused === undefined).length > CASES.length / 2);
});

for (const eventFds of [false, true]) {
  Deno.test(
    `N-7.6, N-7.7, A-7.14, A-7.15: doorbells at each base with each multiplier, 16 and 32 bits wide, with and without NOTIFICATION_DATA, ${
      eventFds ? "by the server's eventfds" : "by writes"
    }`,
    async () => {
      const before = [openFdCount(), mappingCount()];
      const possible = CASES.filter(({ refused }) => refused === undefined)
        // Writes and eventfds over half of them each, and each over both forms.
        .filter((_, at) => (at >> 1) % 2 === Number(eventFds));
      await using served = await TopologyHost.start(possible.map(({ entry }) => entry));
      const widths = new Set<number>();
      let odd = 0;
      for (const { address, form, data, base, multiplier } of possible) {
        served.host.bind(address);
        using device = served.host.open(address);
        const window = new WatchedWindow(device, eventFds);
        using transport = openMmio(window, { profile: PROFILE_OF[form] });
        using blk = new BlkByHand(transport, QUEUES);
        const what = `${form} ${base.toString(16)} + queue · ${multiplier}`;
        assertEquals((blk.features & FEATURE.NOTIFICATION_DATA) !== 0n, data, what);
        const places = Array.from({ length: QUEUES }, (_, queue) => base + queue * multiplier);
        const bad = places.findIndex((offset) => offset % 2 !== 0);
        if (bad >= 0) {
          odd++;
          const error = assertThrows(() => blk.start(QUEUES), DeviceError, "odd offset");
          assertEquals([error.location.function, error.location.queue, error.location.field], [
            address,
            bad,
            "QueueNotify",
          ]);
          continue;
        }
        blk.start(QUEUES);
        const width = wide({ base, multiplier }) ? 4 : 2;
        widths.add(width);
        for (const queue of blk.queues) {
          await blk.wake(queue);
          await blk.wake(queue);
        }
        assertEquals(
          window.doorbells.map(({ offset, width }) => [offset, width]),
          places.map((offset) => [offset, width]),
          what,
        );
        for (const [queue, { kind, written }] of window.doorbells.entries()) {
          assertEquals(kind, eventFds ? "eventfd" : "access", what);
          assert(written.length >= 2 && written.every((value) => (value & 0xffff) === queue), what);
          if (!data) assert(written.every((value) => value === queue), what);
        }
      }
      assertEquals([...widths].sort(), [2, 4]);
      assert(odd > 0);
      assertEquals(await served.stop(), []);
      assertEquals([openFdCount(), mappingCount()], before);
    },
  );
}
