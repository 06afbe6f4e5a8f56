/**
 * What runs in the REPL's process before its first prompt: opens the function, and puts names in reach.
 *
 * @module
 */
import { type Host, openHost } from "../../lib/host/mod.ts";
import { DmaMemory, DmaSpace } from "../../lib/memory/dma.ts";
import { InterruptSet, type VfioDevice } from "../../lib/vfio/mod.ts";
import { MappedRegion } from "../../lib/vfio/mapped_region.ts";
import { exitStatus, failureText } from "../failure.ts";
import { lettingGo } from "../letting_go.ts";
import { LookedFunction } from "../looked_function.ts";
import type { Of } from "../parser.ts";
import { tracedHost } from "../tracing.ts";
import { namedRegisters, PRINTED } from "./named_registers.ts";

/** What the command line said; the function by its full address. */
export type SessionOptions = Of<"repl">;

type Names = Record<string, unknown>;

/** Called once, by `repl.ts`. What fails is told, and ends the process. @param door what the package's main door exports */
export function startSession(options: SessionOptions, door: Names): void {
  try {
    const names = open(options, door);
    for (const [name, value] of Object.entries(names)) {
      Object.defineProperty(globalThis, name, {
        value,
        writable: true,
        configurable: true,
        enumerable: true,
      });
    }
    if (Deno.stdin.isTerminal()) console.log(names.help);
  } catch (error) {
    console.error(failureText(error, options.host ?? "linux"));
    Deno.exit(exitStatus(error));
  }
}

function open(options: SessionOptions, door: Names): Names {
  const words = ["ringside repl", ...(options.function === undefined ? [] : [options.function])];
  const plain = openHost(options.host ?? "linux", { holder: words.join(" ") });
  printsAs(Object.getPrototypeOf(plain), ({ name }: typeof plain) => `host ${name}`);
  const { trace } = options;
  const seen = trace === undefined || trace === "-" ? plain : tracedHost(plain, trace, new DisposableStack());
  const { host } = lettingGo(seen, (why) => console.error(failureText(why, options.host ?? "linux")));
  const names: Names = { ...door, host };
  if (options.function !== undefined) {
    Object.assign(names, openFunction(host, { ...options, function: options.function }));
  }
  return Object.assign(names, { help: helpFor(names, door) });
}

function openFunction(
  host: Host,
  options: SessionOptions & { readonly function: string },
): Names {
  const looked = new LookedFunction(host, options);
  // A session that ends in order closes in order; of another the kernel, or the embedded host, closes what it had open.
  addEventListener("unload", () => looked[Symbol.dispose]());
  for (const signal of ["SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => Deno.exit(signal === "SIGTERM" ? 143 : 129));
  }
  const device = looked.open();
  printStack(device);
  const sets: Names = Object.create(null);
  for (const set of looked.sets) {
    const registers = namedRegisters(looked.registers(set));
    sets[nameOf(set.name, options.table)] = registers;
  }
  Object.defineProperty(sets, PRINTED, {
    value: () => Object.keys(sets).join("  "),
  });
  return { ...sets, device, pci: about(looked), bars: barsOf(looked), regs: sets };
}

/** A set's name as an identifier: `msi-x` is `msi_x`, and the table of a file `edu.txt` is `edu`. */
function nameOf(set: string, table: string | undefined): string {
  if (set !== "table" || table === undefined) return set.replaceAll("-", "_");
  const file = /([^/]*?)(\.[^./]*)?$/.exec(table)?.[1] ?? "";
  return /^[A-Za-z_]\w*$/.test(file) && !(file in globalThis) ? file : "table";
}

/** What the host knows of the function, in a few lines; all of it are properties. */
function about({ about }: LookedFunction): object {
  return Object.defineProperty({ ...about }, PRINTED, {
    value: () => {
      const group = about.iommuGroup === undefined ? "" : `, IOMMU group ${about.iommuGroup}`;
      const id = about.bus === "pci"
        ? ` ${[about.vendorId, about.deviceId].map((one) => one.toString(16).padStart(4, "0")).join(":")}`
        : "";
      return `${about.address}${id} ${about.deviceName}, driver ${about.driver ?? "(none)"}${group}`;
    },
  });
}

/** BARs by number, each mapped when it is first asked for. */
function barsOf(looked: LookedFunction): object {
  const bars = {};
  const sizes = [...looked.barSizes.entries()].filter(([, sizeBytes]) => sizeBytes > 0);
  for (const [index] of sizes) {
    Object.defineProperty(bars, index, { get: () => looked.space(index), enumerable: true });
  }
  return Object.defineProperty(bars, PRINTED, {
    value: () => sizes.map(([index, sizeBytes]) => `bars[${index}]  ${sizeBytes} bytes`).join("\n"),
  });
}

/** How objects that have no properties to be seen print themselves. */
function printStack(device: VfioDevice): void {
  printsAs(Object.getPrototypeOf(device), ({ name }: VfioDevice) => `function ${name}, open`);
  printsAs(
    MappedRegion.prototype,
    ({ index, sizeBytes }) => `BAR ${index}, ${sizeBytes} bytes`,
  );
  printsAs(
    InterruptSet.prototype,
    ({ kind, eventFds }) => `${kind ?? "no"} interrupts, ${eventFds.length} vectors`,
  );
  printsAs(
    DmaMemory.prototype,
    ({ label, sizeBytes, iova, closed }) =>
      closed ? `${label}, closed` : `${label}: ${sizeBytes} bytes at IOVA 0x${iova.toString(16)}`,
  );
  printsAs(
    DmaSpace.prototype,
    ({ usage, addressBits }) =>
      `${usage.bytes} bytes of DMA memory in ${usage.allocations} pieces, ${addressBits} address bits`,
  );
}

function printsAs<T>(prototype: T, text: (one: T) => string): void {
  Object.defineProperty(prototype, PRINTED, {
    configurable: true,
    value(this: T) {
      return text(this);
    },
  });
}

function helpFor(names: Names, door: Names): object {
  const own = Object.keys(names).filter((name) => !(name in door));
  const text = [
    "pci" in names ? Deno.inspect(names.pci) : Deno.inspect(names.host),
    `In reach: ${own.join(", ")}; and ${
      Object.keys(door).filter((name) => /^(open|Virtio)/.test(name)).join(", ")
    }`,
    "Tab completes; Ctrl-D leaves, and all is put back",
  ].join("\n");
  return Object.defineProperty({}, PRINTED, { value: () => text });
}
