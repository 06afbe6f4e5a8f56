/**
 * Declared wire structures and their codec: pure.
 *
 * @module
 */
export * from "./struct.ts";
