/**
 * What a topology says of one kind of function.
 *
 * @module
 */
import type { TopologyProfile } from "./function_topology.ts";

/** Where a function is in its topology. */
export interface FunctionPlace {
  /** Path: `functions[1]`. */
  readonly at: string;
  /** Full address. */
  readonly address: string;
  /** Most VFs that it can have. */
  readonly totalVfs: number;
}

/** A schema of the package valibot, whose output is a `T`. */
export interface Schema<T> {
  /** Always. */
  readonly kind: "schema";
  /** What it is of. */
  readonly type: string;
  /** For the compiler only. */
  readonly "~types"?: { readonly output: T } | undefined;
}

/** A kind of function. `Own` are its own fields. */
export interface TopologyKind<Own extends object = object> {
  /** As topologies name it: `virtio-net`. */
  readonly name: string;
  /** What its own fields may be. */
  readonly fields: { readonly [Field in keyof Own]-?: Schema<Own[Field] | undefined> };
  /** What `queueSize` may be. Default: 1 to 32768. */
  readonly queueSize?: Schema<number>;
  /** VFs when a topology does not say. Default 0. */
  readonly totalVfs?: number;
  /** What profile its functions have when a topology does not say. Default `spec`. */
  readonly profile?: TopologyProfile;
  /** Why it cannot be a platform device, as the end of a sentence. Absent: it can. */
  readonly pciOnly?: string;
  /** Its PFs can have administration queues; `legacy`: and VFs with legacy registers. */
  readonly admin?: "modern" | "legacy";
  /** Checks fields against each other. @throws TopologyError */
  check?(own: Own, place: FunctionPlace): void;
  /** Fills in what follows from the place. */
  fill?(own: Own, place: FunctionPlace): Own;
  /** Checks functions of one topology against each other. @throws TopologyError */
  together?(functions: readonly { readonly own: Own; readonly at: string }[]): void;
}
