/**
 * What functions have done until now: of an embedded host what its devices count, of a Linux host what the kernel counts of their interrupts.
 *
 * @module
 */
import { readTextIfAny } from "../../ffi/mod.ts";
import type { SwitchPortState } from "../../lib/emulation/virtio/net/kind.ts";
import type { FunctionInfo, Host } from "../../lib/host/mod.ts";
import { isVfioDriver } from "../../lib/host/changes/driver_binding.ts";
import type { FunctionCounters, QueueCounters } from "../../lib/virtio/view/queue_view.ts";
import { hostRecords } from "../host_report.ts";

/** A function, and what it has done. */
export interface FunctionSample {
  readonly function: string;
  readonly name: string;
  readonly driver: string | null;
  readonly holder: string | null;
  /** Queues that are enabled; none where only the process that drives the function can tell. */
  readonly queues: readonly QueueCounters[];
  /** How often each interrupt came, by name. */
  readonly interrupts: Readonly<Record<string, number>>;
  /** What passed the port of an embedded switch; null for what is no port. */
  readonly network:
    | Pick<SwitchPortState, "framesIn" | "framesOut" | "bytesIn" | "bytesOut" | "dropped">
    | null;
}

/** A look at a host. */
export interface Sample {
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly functions: readonly FunctionSample[];
}

/** Looks at functions that somebody holds, that are on a VFIO driver, that the journal is about, or that have done something. */
export function takeSample(host: Host): Sample {
  const counters = hostRecords<FunctionCounters>(host, "counters");
  const ports = new Map(
    (hostRecords<SwitchPortState>(host, "switch") ?? []).map((one) => [one.function, one]),
  );
  const counted = new Map((counters ?? []).map((one) => [one.function, one]));
  const noted = new Set(host.journal().map((one) => one.function));
  const kernel = counters === undefined ? kernelInterrupts(readTextIfAny("/proc/interrupts") ?? "") : [];
  const functions = host.list().map((about): FunctionSample & { readonly isShown: boolean } => {
    const own = counted.get(about.address);
    const port = ports.get(about.address);
    const interrupts = own === undefined ? interruptsOf(kernel, about.address) : emulatedInterrupts(own);
    const queues = own?.queues ?? [];
    return {
      ...describe(about),
      queues,
      interrupts,
      network: port === undefined ? null : passed(port),
      isShown: about.heldBy !== undefined || isVfioDriver(about.driver ?? "") || noted.has(about.address) ||
        queues.length > 0,
    };
  });
  return {
    time: Date.now(),
    functions: functions.filter((one) => one.isShown).map(({ isShown: _, ...one }) => one),
  };
}

function describe(about: FunctionInfo): Pick<FunctionSample, "function" | "name" | "driver" | "holder"> {
  return {
    function: about.address,
    name: about.deviceName,
    driver: about.driver ?? null,
    holder: about.heldBy ?? null,
  };
}

function passed(
  { framesIn, framesOut, bytesIn, bytesOut, dropped }: SwitchPortState,
): FunctionSample["network"] {
  return { framesIn, framesOut, bytesIn, bytesOut, dropped };
}

function emulatedInterrupts({ vectors, line }: FunctionCounters): Record<string, number> {
  return {
    ...Object.fromEntries(Object.entries(vectors).map(([vector, count]) => [`vector ${vector}`, count])),
    ...(line > 0 ? { line } : {}),
  };
}

/** A line of /proc/interrupts. */
export interface KernelInterrupt {
  readonly text: string;
  readonly count: number;
}

/** Interrupts that the kernel counts, over all processors. @param text of /proc/interrupts */
export function kernelInterrupts(text: string): KernelInterrupt[] {
  const [head = "", ...lines] = text.split("\n");
  const processors = head.trim().split(/\s+/).length;
  return lines.flatMap((line) => {
    const [number, ...fields] = line.trim().split(/\s+/);
    if (number === undefined || !/^\d+:$/.test(number)) return [];
    const counts = fields.slice(0, processors).map(Number);
    return [{
      text: fields.slice(processors).join(" "),
      count: counts.reduce((sum, one) => sum + one, 0),
    }];
  });
}

/** Those of a function, by what their handlers are called: vfio-pci names them `vfio-msix[0](0000:01:00.0)`. */
export function interruptsOf(all: readonly KernelInterrupt[], address: string): Record<string, number> {
  const own = all.filter((one) => one.text.includes(address));
  return Object.fromEntries(
    own.map(({ text, count }) => [text.slice(text.lastIndexOf(" ") + 1).replace(`(${address})`, ""), count]),
  );
}
