/**
 * Capture files (pcap and pcapng), read and written frame by frame.
 *
 * @module
 */
export * from "./frame.ts";
export * from "./reader.ts";
export * from "./writer.ts";
