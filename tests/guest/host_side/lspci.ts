/** What `lspci` shows of functions, and what it must and must not show of those of the embedded host. */
import { assert, assertEquals } from "@std/assert";

/** The output of `lspci` for some functions, in the order of their buses. */
export interface LspciOutput {
  /** Of `-vvv`. */
  readonly listing: string;
  /** Of `-xxx`. */
  readonly bytes: string;
  /** What `-vvv` says on standard error. */
  readonly errors: string;
}

/** Types of virtio capabilities that lspci has no name for: PCI configuration access and shared memory (virtio 1.2 §4.1.4.7, §4.1.4.9). */
export const UNNAMED = { pciAccess: 5, sharedMemory: 8 } as const;

/** What is to be seen of a function. */
export interface ExpectedFunction {
  /** Class and names, without a revision. */
  readonly title: string;
  /** Types of its capabilities without a name, in their order. */
  readonly unnamed: readonly number[];
  /** Version of its PCI Express capability. Default 2. */
  readonly express?: number;
  /** The kernel has a driver for its type of virtio device, which turns MSI-X on. Default true. */
  readonly driven?: boolean;
}

const SIGNS = ["!!!", "<unknown", "Unknown", "<chain ", "<access denied", "[virtual]", "[disabled]"];
const PARTS = ["CommonCfg", "ISR", "Notify", "Kernel driver in use: virtio-pci"];

/** Throws unless all is as expected, with the functions on the kernel's virtio driver. */
export function checkLspci(output: LspciOutput, expected: readonly ExpectedFunction[]): void {
  assertEquals(output.errors, "", "lspci complains");
  const functions = output.listing.trimEnd().split(/\n\n/);
  const configs = output.bytes.trimEnd().split(/\n\n/);
  assertEquals(
    functions.map((text) => /^\S+ (.*)$/m.exec(text)?.[1]?.replace(/ \(rev.*/, "")),
    expected.map(({ title }) => title),
  );
  functions.forEach((text, index) => {
    const { express = 2, driven = true } = expected[index]!;
    const unnamed = /^\tCapabilities: \[(\w+)\] Vendor Specific Information: VirtIO: <unknown>$/gm;
    const types = [...text.matchAll(unnamed)].map((match) =>
      configByte(configs[index]!, parseInt(match[1]!, 16) + 3)
    );
    assertEquals(types, expected[index]!.unnamed, text);
    const others = text.replaceAll(unnamed, "");
    for (const sign of SIGNS) assert(!others.includes(sign), `lspci says ${sign}:\n${text}`);
    const parts = [...PARTS, `Express (v${express}) Endpoint`, `MSI-X: Enable${driven ? "+" : "-"}`];
    for (const part of parts) assert(text.includes(part), `lspci shows no ${part}:\n${text}`);
  });
}

/** Runs it, in a guest that has the host's programs. @param buses numbers, one function on each */
export function runLspci(buses: readonly number[]): LspciOutput {
  const run = (option: string, bus: number) => {
    const { stdout, stderr } = new Deno.Command("lspci", { args: [option, "-s", `${bus}:0`] }).outputSync();
    return { out: decoder.decode(stdout), err: decoder.decode(stderr) };
  };
  const listings = buses.map((bus) => run("-vvv", bus));
  return {
    listing: listings.map(({ out }) => out).join(""),
    bytes: buses.map((bus) => run("-xxx", bus).out).join(""),
    // The guest's kernel is not an installed one: lspci finds no module of it.
    errors: listings.map(({ err }) => err).join("").replace(/^.*kmod.*\n/gmi, ""),
  };
}

const decoder = new TextDecoder();

function configByte(dump: string, offset: number): number {
  const row = new RegExp(`^${(offset & ~15).toString(16).padStart(2, "0")}: (.*)$`, "m").exec(dump)?.[1] ??
    "";
  return parseInt(row.split(" ")[offset & 15] ?? "", 16);
}
