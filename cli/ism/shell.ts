/**
 * Commands by lines of standard input, for a region that this process holds.
 *
 * @module
 */
import { stdin } from "node:process";
import { createInterface } from "node:readline";
import type { IsmRegion, VirtioIsm } from "../../drivers/ism/virtio_ism.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import { failureJson, failureText } from "../failure.ts";
import { hexText, jsonText, OutputClosedError, print, remark } from "../output.ts";
import { parseSize } from "../byte_size.ts";
import { grantedText } from "./grant.ts";
import { parsePermissions, permissionNames, permissionsText } from "./permissions.ts";
import { parseToken, tokenText } from "./token.ts";

/** What a line is answered with: text, and the same as plain data. */
interface Answer {
  readonly text: string;
  readonly json: Record<string, unknown>;
}

interface Place {
  readonly ism: VirtioIsm;
  readonly region: IsmRegion;
}

interface Verb {
  readonly usage: string;
  readonly does: string;
  /** @throws UsageError for words that it does not understand */
  run(place: Place, words: readonly string[], rest: string): Answer | Promise<Answer>;
}

const MOST_READ_BYTES = 1 << 20;

const VERBS: Readonly<Record<string, Verb>> = {
  grant: {
    usage: "grant PERMISSIONS [DEVID [clean-default]]",
    does:
      "what others may do: read,write,attach,manage or none; for one device, or for all without their own",
    run: grant,
  },
  notify: {
    usage: "notify",
    does: "tell the others that the region was updated",
    run({ region }) {
      region.notify();
      return { text: "notified", json: { notified: true } };
    },
  },
  read: {
    usage: "read OFFSET BYTES",
    does: "print bytes in hexadecimal",
    run: read,
  },
  write: {
    usage: "write OFFSET TEXT | 0xHEX",
    does: "write text, or bytes",
    run: write,
  },
  query: {
    usage: "query [TOKEN]",
    does: "size of a region, and what this function may do with it",
    run: query,
  },
  detach: {
    usage: "detach",
    does: "give the region up, and end",
    async run({ region }) {
      await region.detach();
      return { text: `${tokenText(region.token)} is given up`, json: { detached: true } };
    },
  },
  help: { usage: "help", does: "this list", run: help },
  quit: {
    usage: "quit",
    does: "end, and give the region up by that",
    run: () => ({ text: "", json: {} }),
  },
};

/** Runs lines until there are no more, or one of them ends it. @returns how many failed */
export async function runShell(
  ism: VirtioIsm,
  region: IsmRegion,
  json: boolean,
  signal: AbortSignal,
): Promise<number> {
  let failed = 0;
  for await (const line of createInterface({ input: stdin })) {
    if (signal.aborted) break;
    const words = line.split(/\s+/).filter((word) => word !== "");
    const name = words[0];
    if (name === undefined || name.startsWith("#")) continue;
    if (name === "quit") break;
    try {
      const { text, json: data } = await runLine({ ism, region }, line, words);
      print(json ? jsonText({ command: name, ...data }, 0) : text);
    } catch (error) {
      if (error instanceof OutputClosedError) throw error;
      failed++;
      remark(failureText(error));
      if (json) print(jsonText({ command: name, ...failureJson(error) }, 0));
    }
    if (region.closed) break;
  }
  return failed;
}

async function runLine(place: Place, line: string, words: readonly string[]): Promise<Answer> {
  const name = words[0]!;
  const verb = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined;
  if (verb === undefined) {
    throw new UsageError(`no command ${JSON.stringify(name)}`, { hint: "help lists them" });
  }
  // Text to write keeps its spaces.
  const rest = /^\s*\S+\s+\S+[ \t](.*)$/s.exec(line)?.[1] ?? "";
  return await verb.run(place, words.slice(1), rest);
}

function misused(name: keyof typeof VERBS): UsageError {
  return new UsageError(`usage: ${VERBS[name]!.usage}`);
}

async function grant({ ism, region }: Place, words: readonly string[]): Promise<Answer> {
  const [list, device, clean] = words;
  const permissions = list === undefined ? undefined : parsePermissions(list);
  const devid = device === undefined ? undefined : parseToken(device);
  const whole = words.length <= 3 && (device === undefined) === (devid === undefined);
  if (permissions === undefined || !whole || (clean !== undefined && clean !== "clean-default")) {
    throw misused("grant");
  }
  const cleanDefault = clean !== undefined;
  if (devid === undefined) await ism.grantDefault(region, permissions);
  else await ism.grantFor(region, devid, permissions, { cleanDefault });
  return {
    text: grantedText(devid, permissions, cleanDefault),
    json: { devid: devid ?? null, permissions: permissionNames(permissions), cleanDefault },
  };
}

function read({ region }: Place, words: readonly string[]): Answer {
  const offset = parseSize(words[0] ?? "");
  const bytes = parseSize(words[1] ?? "");
  if (offset === undefined || bytes === undefined || words.length !== 2) throw misused("read");
  if (bytes > MOST_READ_BYTES) throw new UsageError(`${bytes} bytes: at most ${MOST_READ_BYTES} in one line`);
  const into = new Uint8Array(bytes);
  region.read(offset, into);
  const hex = hexText(into);
  return { text: hex, json: { offset, hex } };
}

function write({ region }: Place, words: readonly string[], rest: string): Answer {
  const offset = parseSize(words[0] ?? "");
  if (offset === undefined || rest === "") throw misused("write");
  const bytes = bytesOf(rest);
  region.write(offset, bytes);
  return { text: `${bytes.length} bytes written at ${offset}`, json: { offset, bytes: bytes.length } };
}

function bytesOf(text: string): Uint8Array {
  const hex = /^0x((?:[0-9a-f]{2})+)$/i.exec(text)?.[1];
  if (hex === undefined) return new TextEncoder().encode(text);
  return Uint8Array.fromHex(hex);
}

async function query({ ism, region }: Place, words: readonly string[]): Promise<Answer> {
  const token = words[0] === undefined ? region.token : parseToken(words[0]);
  if (token === undefined || words.length > 1) throw misused("query");
  const { sizeBytes, permissions } = await ism.query(token);
  return {
    text: `${tokenText(token)}: ${sizeBytes} bytes; this function may: ${permissionsText(permissions)}`,
    json: { token: tokenText(token), bytes: sizeBytes, permissions: permissionNames(permissions) },
  };
}

function help(): Answer {
  const verbs = Object.values(VERBS).map(({ usage, does }) => ({ usage, does }));
  const width = Math.max(...verbs.map(({ usage }) => usage.length));
  return {
    text: verbs.map(({ usage, does }) => `${usage.padEnd(width)}  ${does}`).join("\n"),
    json: { verbs },
  };
}
