/**
 * A process that drives one function of an emulated host (arguments: directory, address, driver options as JSON). Each line of its standard input is a
 * request, each line of its output the answer: values as JSON, 64-bit numbers as decimal text.
 */
import {
  IsmError,
  type IsmEvent,
  type IsmRegion,
  VirtioIsm,
  type VirtioIsmOptions,
} from "../../../drivers/virtio_ism.ts";
import { IsmChannel } from "../../../drivers/virtio_ism_channel.ts";
import { mappingCount } from "../../../ffi/mod.ts";
import { EmulatedHost } from "../../../lib/host/mod.ts";
import { PciModernTransport } from "../../../lib/virtio/mod.ts";
import type { Answer, Request } from "./ism_peer.ts";

const [directory = "", address = "", options = "{}"] = Deno.args;
using host = EmulatedHost.connect(directory);
using device = host.open(address);
using transport = PciModernTransport.open(device);
await using ism = await VirtioIsm.open(transport, JSON.parse(options) as VirtioIsmOptions);
const regions = new Map<bigint, IsmRegion>();
let channel: IsmChannel | undefined;

function region(token: string): IsmRegion {
  return regions.get(BigInt(token))!;
}

function added(one: IsmRegion): Record<string, unknown> {
  regions.set(one.token, one);
  const { token, sizeBytes, chunks, contiguous, mapped } = one;
  return { token: String(token), sizeBytes, chunks, contiguous, mapped };
}

function eventText(event: IsmEvent): string {
  switch (event.type) {
    case "fault":
      return `fault ${event.error.message}`;
    case "buffer-free":
      return "buffer-free";
    case "update":
      return `update by ${event.devid}`;
    default:
      return `${event.type} by ${event.devid}, ${event.peers} left`;
  }
}

async function events(count: number): Promise<string[]> {
  const seen: string[] = [];
  while (seen.length < count && await ism.waitEvent(10_000)) seen.push(...ism.takeEvents().map(eventText));
  return seen;
}

/** Bytes with a known sequence; a sum that depends on their order. */
function fill(bytes: Uint8Array, from: number): void {
  for (let i = 0; i < bytes.length; i++) bytes[i] = (from + i) * 31 >> 3;
}

async function carryOut(request: Request): Promise<unknown> {
  switch (request.op) {
    case "info": {
      const { devid, cdidText, chunkSizeBytes, maxChunks } = ism.info;
      return { devid: String(devid), cdidText, chunkSizeBytes, maxChunks };
    }
    case "alloc":
      return added(await ism.alloc(request.sizeBytes));
    case "attach":
      return added(await ism.attach(BigInt(request.token), request));
    case "query": {
      const { sizeBytes, permissions } = await ism.query(BigInt(request.token));
      return { sizeBytes: Number(sizeBytes), permissions };
    }
    case "detach":
      return await ism.detach(BigInt(request.token));
    case "grant-default":
      return await ism.grantDefault(BigInt(request.token), request.permissions);
    case "grant-for": {
      const { token, devid, permissions, cleanDefault } = request;
      return await ism.grantFor(BigInt(token), BigInt(devid), permissions, { cleanDefault });
    }
    case "vector":
      return await ism.setEventVector(region(request.token), request.vector);
    case "write":
      return region(request.token).write(request.offset, Uint8Array.from(request.bytes));
    case "read": {
      const into = new Uint8Array(request.length);
      region(request.token).read(request.offset, into);
      return [...into];
    }
    case "notify":
      return region(request.token).notify();
    case "updates":
      await region(request.token).waitUpdate(10_000, request.since);
      return region(request.token).updates;
    case "events":
      return await events(request.count);
    case "state": {
      const { regions: attached, mappedBytes, faults } = ism.statistics();
      return { regions: attached, mappedBytes, faults, mappings: mappingCount().mappings };
    }
    case "reset":
      return await ism.reset();
    case "channel":
      channel = request.token === undefined
        ? await IsmChannel.create(ism, request.options)
        : await IsmChannel.connect(ism, BigInt(request.token), request.options);
      return String(channel.token);
    case "send": {
      const piece = new Uint8Array(50_000);
      for (let sent = 0; sent < request.length;) {
        const bytes = piece.subarray(0, Math.min(piece.length, request.length - sent));
        fill(bytes, sent);
        await channel!.writeAll(bytes, 20_000);
        sent += bytes.length;
      }
      if (request.end) channel!.closeWrite();
      return channel!.statistics;
    }
    case "receive": {
      const into = new Uint8Array(70_000);
      const expected = new Uint8Array(into.length);
      let received = 0;
      while (received < request.length) {
        const count = await channel!.readSome(into.subarray(0, request.length - received), 20_000);
        if (count === 0) break;
        fill(expected.subarray(0, count), received);
        for (let i = 0; i < count; i++) {
          if (into[i] !== expected[i]) throw new Error(`byte ${received + i}`);
        }
        received += count;
      }
      return received;
    }
    case "close-channel":
      return await channel!.close();
  }
}

async function answerTo(request: Request): Promise<Answer> {
  try {
    return { value: await carryOut(request) ?? null };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const ack = error instanceof IsmError ? error.ackName ?? String(error.ack) : undefined;
    return { error: error.name, message: error.message, ...(ack === undefined ? {} : { ack }) };
  }
}

const encoder = new TextEncoder();
console.log(JSON.stringify({ value: "ready" }));
let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    const answer = await answerTo(JSON.parse(line) as Request);
    await Deno.stdout.write(encoder.encode(`${JSON.stringify(answer)}\n`));
  }
}
