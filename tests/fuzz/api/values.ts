/**
 * Arguments for random calls: by the parameter's name something that fits, or something that fits no more, or anything at all.
 *
 * @module
 */
import { FrameBurst } from "../../../drivers/net/virtio_net.ts";
import { createMemfd, EventFd, OwnedFd } from "../../../ffi/mod.ts";
import { FileJournalStore } from "../../../lib/host/journal/store.ts";
import { parseTopology } from "../../../lib/emulation/mod.ts";
import { usedBurst } from "../../../lib/virtio/mod.ts";
import type { Parameter } from "./doors.ts";

/** What the walk throws out of getters, callbacks and conversions of its own: it may come back, being the caller's. */
export class OwnError extends Error {}

/** A source of chance. */
export interface Chance {
  /** 0 … bound − 1. */
  below(bound: number): number;
}

/** Objects that are there to be used. */
export interface Stock {
  /** One whose class, or one of its parents, has a name that matches. */
  pick(pattern?: RegExp): object | undefined;
  /** To be closed in the end. */
  keep<T extends object>(one: T): T;
}

const BYTE_LENGTHS = [0, 1, 2, 4, 8, 14, 60, 64, 100, 512, 1024, 1514, 4096];
const NUMBERS = [
  0,
  1,
  2,
  3,
  4,
  5,
  6,
  7,
  8,
  16,
  20,
  32,
  64,
  128,
  255,
  256,
  512,
  1000,
  4096,
  8192,
  65535,
  65536,
];
const ODD_NUMBERS = [
  NaN,
  Infinity,
  -Infinity,
  -0,
  -1,
  0.5,
  1.5,
  -2147483648,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40,
  2 ** 53,
  2 ** 53 + 2,
  1e300,
];
const TEXTS = [
  "",
  "x",
  "0",
  "-1",
  " ",
  "\0",
  "ä€😀",
  "\ud800",
  "0000:01:00.0",
  "0000:01:00.1",
  "0000:02:00.0",
  "01:00",
  "ff:1f.7",
  "none",
  "msix",
  "msi",
  "intx",
  "spec",
  "queue-state",
  "split",
  "packed",
  "poll",
  "event",
  "adaptive",
  "promisc",
  "self",
  "sriov",
  "get",
  "all",
  "vfio-pci",
  "virtio-net",
  "52:54:00:00:00:01",
  "11111111-2222-3333-4444-555555555555",
  "{}",
  '{"functions":[]}',
  "__proto__",
  "constructor",
  "length",
  "a".repeat(70_000),
];

/** Makes arguments. */
export class Values {
  readonly #chance: Chance;
  readonly #stock: Stock;
  /** Directory of the walk's own for files. */
  readonly #directory: string;

  /** Copies that lack something: when they come back, they are no objects to use. */
  readonly spoilt = new WeakSet<object>();

  constructor(chance: Chance, stock: Stock, directory: string) {
    this.#chance = chance;
    this.#stock = stock;
    this.#directory = directory;
  }

  /** Arguments of one call: mostly all of them, at times one too few or one too many. */
  list(parameters: readonly Parameter[], patient: boolean): unknown[] {
    const values = parameters.map((one) => this.#one(one, patient));
    const turn = this.#chance.below(20);
    // Left out, a limit would mean for ever.
    if (turn === 0 && patient) values.pop();
    if (turn === 1) values.push(this.#junk());
    // The later ones are mostly optional.
    if (turn > 15 && patient) { while (values.length > 1 && this.#chance.below(2) === 0) values.pop(); }
    return values;
  }

  #one(parameter: Parameter, patient: boolean): unknown {
    const turn = this.#chance.below(10);
    if (/ms$/i.test(parameter.name)) return this.#time(turn, patient);
    if (turn < 6) return this.right(parameter);
    if (turn < 8) return this.#mutated(this.right(parameter));
    return this.#junk();
  }

  /** A time that nothing waits long for; where the call does not block the thread, any. */
  #time(turn: number, patient: boolean): unknown {
    if (turn < 6) return this.#chance.below(3);
    const junk = this.#junk();
    if (!patient && (junk === undefined || Number(typeof junk === "object" ? NaN : safeNumber(junk)) > 3)) {
      return 1;
    }
    return junk;
  }

  /** Something that fits a parameter of this name, as far as names tell. */
  right({ name, fields }: Parameter): unknown {
    const { below } = this;
    switch (name) {
      case "frame":
        return below(2) === 0 ? this.#bytes(64) : below(4);
      case "into":
        return below(3) === 0
          ? usedBurst(1 + below(4))
          : below(4) === 0
          ? new Uint32Array(8)
          : this.#bytes(this.#of(BYTE_LENGTHS));
      case "burst":
        return new FrameBurst(1 + below(8));
      case "slots":
        return below(2) === 0 ? Uint16Array.from([0, 1, 2]) : below(4);
      case "lengths":
        return Uint32Array.from([60, 64, 100]);
      case "width":
        return this.#of([1, 2, 4, 8]);
      case "iova":
      case "lo":
      case "hi":
      case "bits":
      case "mask":
      case "token":
        return below(3) === 0 ? BigInt(this.#of(NUMBERS)) : below(3);
      case "features":
      case "offered":
      case "accepted":
        return BigInt(this.#of(NUMBERS)) << BigInt(below(40));
      case "translate":
        return (iova: bigint) => iova;
      case "listener":
      case "onSignal":
      case "read":
      case "work":
      case "action":
      case "fail":
      case "checkBuffer":
      case "onStep":
      case "changed":
        return this.#callback();
      case "deviceWrites":
      case "on":
      case "up":
      case "writable":
      case "stopped":
      case "wrap":
      case "legacy":
      case "asserted":
      case "active":
      case "packed":
      case "suspended":
        return below(2) === 0;
      case "kind":
        return this.#of(["none", "intx", "msi", "msix", "get", "set", "function"]);
      case "profile":
        return "spec";
      case "layout":
        return this.#of(["split", "packed"]);
      case "choice":
        return this.#of(["auto", "msix", "none", "intx"]);
      case "filter":
        return this.#of(["promisc", "allmulti", "alluni", "nobcast"]);
      case "mode":
      case "wait":
        return this.#of(["poll", "event", "adaptive"]);
      case "mac":
        return Uint8Array.from([2, 0, 0, 0, 0, 1]);
      case "unicast":
      case "multicast":
        return [Uint8Array.from([2, 0, 0, 0, 0, 1])];
      case "transport":
      case "current":
      case "to":
        return this.#stock.pick(/Transport$/);
      case "device":
      case "live":
      case "inner":
        return this.#stock.pick(/Device$/);
      case "memory":
        return this.#stock.pick(/Memory$/);
      case "fd":
      case "file":
      case "socket":
      case "listenerFd":
        return below(2) === 0
          ? this.#stock.pick(/Fd$/)
          : this.#stock.keep(below(2) === 0 ? new EventFd() : createMemfd("walk", 4096));
      case "vector":
      case "eventFd":
        return below(2) === 0 ? below(4) : this.#stock.keep(new EventFd());
      case "given":
      case "eventFds":
      case "fds":
        return [this.#stock.keep(new EventFd()), null];
      case "signal":
        return AbortSignal.timeout(1);
      case "ism":
        return this.#stock.pick(/^VirtioIsm$/);
      case "address":
      case "pf":
        return below(3) === 0
          ? `0000:01:00.${below(4)}`
          : below(2) === 0
          ? `0000:0${1 + below(6)}:00.0`
          : below(4) * 256;
      case "text":
      case "name":
        return below(3) === 0 ? `0${1 + below(6)}:00.0` : this.#of(TEXTS);
      case "path":
      case "directory":
      case "stateDirectory":
      case "lockDirectory":
        return `${this.#directory}/${this.#of(["a", "b", "c", "d/e", ""])}`;
      case "topology":
        return parseTopology('{"functions":[{"address":"0000:01:00.0","kind":"virtio-rng"}]}');
      case "store":
        return new FileJournalStore(`${this.#directory}/journal`);
      case "area":
        return below(2) === 0 ? this.#of(["descriptor", "driver", "device"]) : { offset: 0, sizeBytes: 4096 };
      case "request":
        return below(3) === 0 ? this.#fields(fields) : {
          index: below(5),
          action: this.#of(["trigger", "disable", "fire", "mask", "unmask", "unmask-on"]),
          start: below(2),
          count: below(3),
          eventFds: [],
        };
      case "command":
        return {
          opcode: below(16),
          groupType: below(2),
          memberId: below(3),
          data: this.#bytes(below(16)),
          resultBytes: below(64),
        };
      case "addresses":
        return { size: 8, descriptorArea: 0n, driverArea: 0n, deviceArea: 0n };
      case "state":
        return below(2) === 0
          ? { layout: "split", availableIndex: below(9), usedIndex: below(9) }
          : { layout: "packed", availableOffset: 0, availableWrap: true, usedOffset: 0, usedWrap: true };
      case "ids":
      case "bitmap":
        return below(2) === 0 ? [below(70)] : new Set([1, 2]);
      case "bytes":
      case "from":
      case "config":
        return this.#bytes(this.#of(BYTE_LENGTHS));
      case "at":
      case "position":
      case "skip":
      case "offset":
      case "sector":
      case "sectors":
        return below(3) === 0 ? this.#of(NUMBERS) : below(9);
      case "sizeBytes":
      case "lengthBytes":
      case "length":
      case "count":
      case "size":
      case "queueSize":
        return this.#of(NUMBERS);
    }
    const pattern = name.length < 2 ? undefined : new RegExp(name.replace(/s$/, ""), "i");
    const turn = below(6);
    if (turn < 2 && pattern !== undefined) {
      const one = this.#stock.pick(pattern);
      if (one !== undefined) return one;
    }
    if (turn < 4 && fields.length > 0) return this.#fields(fields);
    return below(4);
  }

  /** Some of an object's fields, each as its name says. */
  #fields(names: readonly string[]): Record<string, unknown> {
    const made: Record<string, unknown> = {};
    for (const name of names) {
      const turn = this.below(8);
      if (turn < 4) continue;
      if (/ms$|microseconds$/i.test(name)) made[name] = this.#time(turn < 7 ? 0 : 9, false);
      else made[name] = turn < 7 ? this.right({ name, fields: [] }) : this.#junk();
    }
    return made;
  }

  /** The same kind of thing, spoilt. */
  #mutated(value: unknown): unknown {
    const turn = this.below(4);
    if (typeof value === "number") {
      return turn === 0 ? -value : turn === 1 ? value + 0.5 : this.#of(ODD_NUMBERS);
    }
    if (typeof value === "bigint") return turn === 0 ? -value : turn === 1 ? value << 64n : value << 31n;
    if (typeof value === "string") {
      return turn === 0 ? `${value}\0` : turn === 1 ? value.slice(1) : value + value;
    }
    if (ArrayBuffer.isView(value)) return this.#spoiltBytes(turn, value.byteLength);
    if (typeof value !== "object" || value === null) return this.#junk();
    if (turn === 0) return this.#lying(value);
    const copy: Record<string, unknown> = { ...value };
    this.spoilt.add(copy);
    const keys = Object.keys(copy);
    if (keys.length === 0) return turn === 1 ? copy : this.#lying(value);
    const key = this.#of(keys);
    if (turn === 1) delete copy[key];
    else copy[key] = /ms$|microseconds$/i.test(key) ? "1" : this.#junk();
    return copy;
  }

  /** An object one of whose fields throws when it is read. */
  #lying(value: object): object {
    let left = this.below(4);
    const liar = new Proxy(value, {
      get(target, key): unknown {
        if (left-- === 0) throw new OwnError(`field ${String(key)}`);
        return Reflect.get(target, key);
      },
    });
    this.spoilt.add(liar);
    return liar;
  }

  #bytes(length: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(length).fill(this.below(256));
  }

  #spoiltBytes(turn: number, length: number): unknown {
    if (turn === 0) return detached(length);
    if (turn === 1) {
      const buffer = new ArrayBuffer(length + 8, { maxByteLength: length + 8 });
      const view = new Uint8Array(buffer, 4, length);
      buffer.resize(2);
      return view;
    }
    if (turn === 2) return new Uint8Array(new SharedArrayBuffer(length));
    return this.below(2) === 0 ? new Float64Array(2) : new DataView(new ArrayBuffer(length));
  }

  #callback(): (...values: unknown[]) => unknown {
    const turn = this.below(8);
    if (turn === 0) {
      return () => {
        throw new OwnError("callback");
      };
    }
    if (turn === 1) return () => Promise.reject(new OwnError("callback"));
    if (turn === 2) return () => Promise.resolve(1);
    const value = this.below(3);
    return () => value;
  }

  /** Anything. */
  #junk(): unknown {
    const turn = this.below(30);
    switch (turn) {
      case 0:
      case 1:
      case 2:
        return undefined;
      case 3:
      case 4:
        return null;
      case 5:
      case 6:
      case 7:
        return this.#of(ODD_NUMBERS);
      case 8:
        return this.#of([0n, 1n, -1n, 1n << 31n, 1n << 64n, 1n << 200n]);
      case 9:
      case 10:
        return this.#of(TEXTS);
      case 11:
        return Symbol("symbol");
      case 12:
        return {};
      case 13:
        return [];
      case 14:
        return this.#callback();
      case 15:
        return new Proxy({}, {
          get: () => {
            throw new OwnError("getter");
          },
        });
      case 16: {
        const { proxy, revoke } = Proxy.revocable({}, {});
        revoke();
        return proxy;
      }
      case 17:
        return {
          toString: () => {
            throw new OwnError("toString");
          },
          valueOf: () => {
            throw new OwnError("valueOf");
          },
        };
      case 18:
        return Object.create(null);
      case 19:
        return { length: 2 ** 53, byteLength: -1 };
      case 20:
        return this.#spoiltBytes(this.below(4), 16);
      case 21:
        return new ArrayBuffer(8);
      case 22:
        return new Uint8Array(0);
      case 23:
        return new Date(NaN);
      case 24:
        return new Map([[1, 2]]);
      case 25:
        return this.below(2) === 0;
      case 26:
        return [undefined, null, this.#of(ODD_NUMBERS)];
      case 27:
        return class Odd {};
      default:
        return this.#stock.pick();
    }
  }

  /** 0 … bound − 1. */
  readonly below = (bound: number): number => this.#chance.below(bound);

  #of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

function detached(length: number): Uint8Array {
  const view = new Uint8Array(length);
  structuredClone(view.buffer, { transfer: [view.buffer] });
  return view;
}

function safeNumber(value: unknown): number {
  return typeof value === "symbol" || typeof value === "function" ? NaN : Number(value);
}

/** For messages: what an argument was, short. */
export function shown(value: unknown): string {
  try {
    if (typeof value === "string") return JSON.stringify(value.slice(0, 40));
    if (typeof value === "bigint") return `${value}n`;
    if (typeof value === "function") return "function";
    if (typeof value !== "object" || value === null) return String(value);
    if (ArrayBuffer.isView(value)) return `${value.constructor.name}(${value.byteLength})`;
    if (Array.isArray(value)) return `[${value.slice(0, 4).map(shown).join(", ")}]`;
    const name = value.constructor?.name ?? "null object";
    if (name !== "Object") return name;
    return `{${
      Object.entries(value).slice(0, 8).map(([key, one]) => `${key}: ${one === value ? "…" : shown(one)}`)
        .join(", ")
    }}`;
  } catch {
    return "?";
  }
}

void OwnedFd;
