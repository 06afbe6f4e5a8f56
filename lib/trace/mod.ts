/**
 * What a driver does to a function, recorded: `traced` stands before a device, and tells a sink of each register access, interrupt and DMA mapping.
 *
 * ```ts
 * import { openHost } from "@ringside/ringside/host";
 * import { traced, type TraceRecord } from "@ringside/ringside/trace";
 *
 * using host = openHost("linux");
 * const records: TraceRecord[] = [];
 * using device = traced(host.open("01:00.0"), (record) => records.push(record));
 * ```
 *
 * @module
 */
export * from "./records.ts";
export { traced } from "./traced.ts";
