/**
 * Two virtio-ism functions of one domain: one in QEMU's guest, by the guest's kernel VFIO, the other on the host, straight from the embedded host. Each
 * has regions of its own and of the other, and at last the guest is killed.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { ISM_PERM, IsmError, VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { IsmChannel } from "../../../drivers/ism/ism_channel.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import type { Answer, RegionReport } from "../../emulated/ism/ism_peer.ts";
import { eventText, receivePattern, sendPattern } from "../../emulated/ism/ism_requests.ts";
import type { GuestRequest, IsmTask } from "./ism_job.ts";
import { IsmMailbox, MAILBOX_BYTES } from "./ism_mailbox.ts";
import { bootJob, kernelPaths, whyNoGuest } from "./job_guest.ts";
import { checkLspci, type LspciOutput, UNNAMED } from "./lspci.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";

const GUEST = "0000:01:00.0";
const HOST = "0000:02:00.0";
const CHUNK_BYTES = 4096;
const CHUNKS = 1024;
const SETTINGS = { kind: "virtio-ism", domain: "here", chunkSize: CHUNK_BYTES, chunks: CHUNKS };
const TOPOLOGY = { functions: [GUEST, HOST].map((address) => ({ address, ...SETTINGS })) };
const JOB = new URL("./ism_job.ts", import.meta.url).pathname;
const { READ, WRITE, ATTACH, MANAGE } = ISM_PERM;
const BOTH = { read: true, write: true } as const;
/** A guest takes its time, and a machine under load, too. */
const PATIENCE_MS = 180_000;
/** Of a channel. The guest reads its BAR by messages, 8 bytes each and one after the other; what it writes is not waited for. */
const CHANNEL_BYTES = { toGuest: 100_000, toHost: 300_000 } as const;

/** The host's side of the two. */
class Sides {
  readonly ism: VirtioIsm;
  readonly mailbox: IsmMailbox;

  constructor(ism: VirtioIsm, mailbox: IsmMailbox) {
    this.ism = ism;
    this.mailbox = mailbox;
  }

  async ask(request: GuestRequest): Promise<Answer> {
    this.mailbox.send(request);
    return await this.mailbox.receive(PATIENCE_MS) as Answer;
  }

  /** Asks the guest for what must work. */
  async get<T = unknown>(request: GuestRequest): Promise<T> {
    const answer = await this.ask(request);
    if (answer.error !== undefined) throw new Error(`${request.op}: ${answer.error}: ${answer.message}`);
    return answer.value as T;
  }

  /** Asks the guest for what must be refused. @returns the acknowledgement's name, or the error's */
  async refused(request: GuestRequest): Promise<string> {
    const answer = await this.ask(request);
    if (answer.error === undefined) throw new Error(`${request.op} was not refused`);
    return answer.ack ?? answer.error;
  }

  /** The host's next events. */
  async events(count: number): Promise<string[]> {
    const seen: string[] = [];
    while (seen.length < count && await this.ism.waitEvent(PATIENCE_MS)) {
      seen.push(...this.ism.takeEvents(count - seen.length).map(eventText));
    }
    return seen;
  }
}

async function whoTheyAre(sides: Sides): Promise<{ guest: string; host: string }> {
  const { devid, cdidText, chunkSizeBytes, maxChunks } = await sides.get<Record<string, unknown>>({
    op: "info",
  });
  const { info } = sides.ism;
  assertEquals([cdidText, chunkSizeBytes, maxChunks], [info.cdidText, CHUNK_BYTES, CHUNKS]);
  assert(devid !== String(info.devid));
  const reached = await sides.get<Record<string, unknown>>({ op: "reached" });
  assertEquals(reached.areas, [CHUNKS * CHUNK_BYTES, CHUNKS * info.notifySizeBytes]);
  // To the guest's kernel the BAR is memory like any other's: loads and stores in it become QEMU's messages.
  assertEquals([reached.interruptKind, reached.mappable], ["msix", true]);
  return { guest: devid as string, host: String(info.devid) };
}

/** Of three chunks; allocated in the guest, attached on the host. */
async function guestsRegion(sides: Sides, ids: { guest: string; host: string }): Promise<void> {
  const { ism } = sides;
  const { token, chunks, sizeBytes, mapped } = await sides.get<RegionReport>({
    op: "alloc",
    sizeBytes: 10_000,
  });
  assertEquals([chunks.length, sizeBytes, mapped], [3, 10_000, true]);
  assertEquals(await sides.get({ op: "read", token, offset: 0, length: 5000 }), new Array(5000).fill(0));
  assertEquals((await ism.query(BigInt(token))).sizeBytes, 10_000n);
  const region = await ism.attach(BigInt(token));
  assert(region.mapped);
  assertEquals(await sides.get({ op: "events", count: 1 }), [`attach by ${ids.host}, 1 left`]);

  // Across the edge of two chunks, and at the last byte.
  region.write(4094, Uint8Array.of(1, 2, 3, 4));
  assertEquals(await sides.get({ op: "read", token, offset: 4093, length: 6 }), [0, 1, 2, 3, 4, 0]);
  await sides.get({ op: "write", token, offset: 8190, bytes: [5, 6, 7, 8] });
  await sides.get({ op: "write", token, offset: 9999, bytes: [9] });
  const seen = new Uint8Array(4);
  region.read(8190, seen);
  assertEquals([...seen, region.getUint8(9999)], [5, 6, 7, 8, 9]);

  // By event both ways, then to the guest by a vector (N-5.13).
  await sides.get({ op: "notify", token });
  assertEquals(await sides.events(1), [`update by ${ids.guest}`]);
  region.notify();
  assertEquals(await sides.get({ op: "events", count: 1 }), [`update by ${ids.host}`]);
  const { regionVectors: [vector = -1] } = await sides.get<{ regionVectors: number[] }>({ op: "reached" });
  await sides.get({ op: "vector", token, vector });
  region.notify();
  assertEquals(await sides.get({ op: "updates", token, since: 1 }), 2);
  assertEquals(await sides.get({ op: "events", count: 1 }), ["update by undefined"]);

  await region.detach();
  assertEquals(await sides.get({ op: "events", count: 1 }), [`detach by ${ids.host}, 0 left`]);
  await sides.get({ op: "detach", token });
  assertEquals((await assertRejects(() => ism.query(BigInt(token)), IsmError)).ackName, "ENOENT");
}

/** Allocated on the host; the guest has it to read, then to write, then both. */
async function hostsRegion(sides: Sides, ids: { guest: string; host: string }): Promise<void> {
  const { ism } = sides;
  const region = await ism.alloc(10_000);
  const token = String(region.token);
  const chunksOf = async (read: boolean, write: boolean): Promise<readonly number[]> =>
    (await sides.get<RegionReport>({ op: "attach", token, read, write })).chunks;
  const left = async (): Promise<void> => {
    await sides.get({ op: "detach", token });
    assertEquals(await sides.events(2), [`attach by ${ids.guest}, 1 left`, `detach by ${ids.guest}, 0 left`]);
  };
  region.setUint32(4096, 0x04030201);

  await ism.grantFor(region, BigInt(ids.guest), READ | ATTACH, { cleanDefault: true });
  assertEquals(await sides.get({ op: "query", token }), { sizeBytes: 10_000, permissions: READ | ATTACH });
  assertEquals(await sides.refused({ op: "attach", token, ...BOTH }), "PERM_EWRITE");
  const [, toRead = -1] = await chunksOf(true, false);
  assertEquals(await sides.get({ op: "read", token, offset: 4096, length: 4 }), [1, 2, 3, 4]);
  assertEquals(await sides.refused({ op: "write", token, offset: 4096, bytes: [9] }), "UsageError");
  // Not even past the driver.
  await sides.get({ op: "poke", areaOffset: toRead, value: 99 });
  assertEquals(await sides.get({ op: "peek", areaOffset: toRead }), [1, 2, 3, 4]);
  assertEquals(region.getUint32(4096), 0x04030201);
  await left();

  await ism.grantFor(region, BigInt(ids.guest), WRITE | ATTACH);
  assertEquals(await sides.refused({ op: "attach", token, ...BOTH }), "PERM_EREAD");
  const [, toWrite = -1] = await chunksOf(false, true);
  assertEquals(await sides.refused({ op: "read", token, offset: 0, length: 1 }), "UsageError");
  assertEquals(await sides.get({ op: "peek", areaOffset: toWrite }), [255, 255, 255, 255]);
  await sides.get({ op: "write", token, offset: 4096, bytes: [5, 6, 7, 8] });
  assertEquals(region.getUint32(4096), 0x08070605);
  await left();

  await ism.grantFor(region, BigInt(ids.guest), 0);
  assertEquals(await sides.refused({ op: "attach", token, ...BOTH }), "PERM_EATTACH");
  await ism.grantFor(region, BigInt(ids.guest), READ | WRITE | ATTACH | MANAGE);
  await chunksOf(true, true);
  assertEquals(await sides.events(1), [`attach by ${ids.guest}, 1 left`]);
  // With MANAGE the guest may grant, and takes the right to attach from everybody else.
  await sides.get({ op: "grant-default", token, permissions: 0 });
  await region.detach();
  assertEquals(await sides.get({ op: "events", count: 1 }), [`detach by ${ids.host}, 0 left`]);
  assertEquals(await sides.get({ op: "read", token, offset: 4096, length: 4 }), [5, 6, 7, 8]);
  await sides.get({ op: "detach", token });
}

async function channelBothWays(sides: Sides, ids: { guest: string; host: string }): Promise<void> {
  const options = { peer: BigInt(ids.guest), capacityBytes: 65_536 };
  const channel = await IsmChannel.create(sides.ism, options);
  await sides.get({ op: "channel", token: String(channel.token) });
  await channel.waitPeer(PATIENCE_MS);
  const { toGuest, toHost } = CHANNEL_BYTES;
  const [received] = await Promise.all([
    sides.get({ op: "receive", length: toGuest }),
    sendPattern(channel, toGuest, false),
  ]);
  assertEquals(received, toGuest);
  const [back] = await Promise.all([
    receivePattern(channel, toHost + 1),
    sides.get({ op: "send", length: toHost, end: true }),
  ]);
  assertEquals(back, toHost);
  assert(channel.ended);
  await sides.get({ op: "close-channel" });
  await channel.close();
}

const why = whyNoGuest();

Deno.test({
  name:
    `virtio-ism between a guest's kernel VFIO and the host: regions, rights, events, a channel, a killed guest${
      why === undefined ? "" : ` (skipped: ${why})`
    }`,
  ignore: why !== undefined,
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    const topology = await Deno.makeTempFile({ suffix: ".json" });
    await Deno.writeTextFile(topology, JSON.stringify(TOPOLOGY));
    const served = await startEmulatedHost({ topology });
    try {
      using host = EmulatedHost.connect(served.directory);
      for (const address of [GUEST, HOST]) host.bind(address);
      using device = host.open(HOST);
      using transport = PciModernTransport.open(device);
      await using ism = await VirtioIsm.open(transport);
      // Doorbells of notify addresses are made for the first region, and stay with the function.
      await (await ism.alloc(1)).detach();
      const idle = await settledHoldings(served.pid);
      const mailbox = new IsmMailbox(ism, await ism.alloc(MAILBOX_BYTES), true);
      const sides = new Sides(ism, mailbox);

      const paths = kernelPaths();
      const reports: unknown[] = [];
      const kill = new AbortController();
      const killed = new Error("killed on purpose");
      const guest = bootJob({
        job: JOB,
        task: { token: String(mailbox.region.token), paths } satisfies IsmTask,
        sockets: [`${served.directory}/${GUEST}.sock`],
        onReport: (report) => reports.push(report),
        signal: kill.signal,
      });
      const scenario = async (): Promise<void> => {
        for (const path of paths) {
          await mailbox.waitFor("attach", PATIENCE_MS);
          const ids = await whoTheyAre(sides);
          await guestsRegion(sides, ids);
          await hostsRegion(sides, ids);
          if (path === paths.at(-1)) {
            await channelBothWays(sides, ids);
            await theGuestDies(sides, ids, () => kill.abort(killed));
          } else await sides.get({ op: "end" });
          await mailbox.waitFor("detach", PATIENCE_MS);
          mailbox.startOver();
        }
      };
      try {
        const work = scenario();
        const early = guest.then(
          ({ exitCode, console }) => {
            throw new Error(`the guest ended with status ${exitCode}:\n${console}`);
          },
          (error) => {
            if (error === killed) return work;
            throw error;
          },
        );
        await Promise.race([work, early]);
        assertEquals(await guest.catch((error) => error), killed);
      } finally {
        kill.abort(killed);
        await guest.catch(() => {});
      }

      const title = "Memory controller: Red Hat, Inc. Device 106c";
      checkLspci((reports[0] as { lspci: LspciOutput }).lspci, [{
        title,
        unnamed: [UNNAMED.sharedMemory, UNNAMED.sharedMemory, UNNAMED.pciAccess],
        express: 1,
        driven: false,
      }]);
      const ended = reports.slice(1) as { path: string; kept: [unknown, unknown] }[];
      assertEquals(ended.map(({ path }) => path), paths.slice(0, -1));
      for (const { kept: [before, after] } of ended) assertEquals(after, before);

      await mailbox.region.detach();
      assertEquals(ism.regions, []);
      // What was written past the driver without the right, and read, once by each path.
      const violations = served.violations();
      assertEquals(violations.length, 2 * paths.length, violations.join("\n"));
      for (const line of violations) assert(line.includes("N-5.9"), line);
      assertNothingLeft(
        await settledHoldings(served.pid),
        idle,
        "the embedded host keeps what a client left",
      );
    } finally {
      await served.stop();
      await Deno.remove(topology);
    }
  },
});

/** While each side has a region of the other attached. */
async function theGuestDies(
  sides: Sides,
  ids: { guest: string; host: string },
  kill: () => void,
): Promise<void> {
  const { ism } = sides;
  assertEquals(await sides.get({ op: "complaints" }), [], "the guest's kernel");
  const own = await ism.alloc(5000);
  await sides.get({ op: "attach", token: String(own.token), ...BOTH });
  const { token } = await sides.get<RegionReport>({ op: "alloc", sizeBytes: 9000 });
  const theirs = await ism.attach(BigInt(token));
  for (const one of [String(own.token), token]) {
    await sides.get({ op: "write", token: one, offset: 4095, bytes: [1, 2] });
  }
  assertEquals(await sides.events(1), [`attach by ${ids.guest}, 1 left`]);
  kill();
  const gone = `detach by ${ids.guest}, 0 left`;
  assertEquals(await sides.events(2), [gone, gone]);
  for (const region of [own, theirs]) {
    assertEquals([region.peers, region.getUint16(4095)], [0n, 0x0201]);
    region.setUint16(4095, 0x0403);
    assertEquals(region.getUint16(4095), 0x0403);
    const { sizeBytes, permissions } = await ism.query(region.token);
    assertEquals([sizeBytes, permissions & READ], [BigInt(region.sizeBytes), READ]);
    await region.detach();
    assertEquals((await assertRejects(() => ism.query(region.token), IsmError)).ackName, "ENOENT");
  }
}
