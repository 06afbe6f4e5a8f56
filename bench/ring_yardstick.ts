/**
 * Rings in C with the same book-keeping and checks: `ring_yardstick.c`, compiled when it is needed.
 *
 * @module
 */
import { type NumberLibrary, openNumberLibrary } from "../ffi/number_library.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { compileC } from "./c_compiler.ts";
import type { RingVariant } from "./ring_pair.ts";
import { useDirectory } from "./processes.ts";

/** See the module. */
export class RingYardstick {
  readonly #library: NumberLibrary<"ring_reset" | "ring_turn">;

  private constructor(library: NumberLibrary<"ring_reset" | "ring_turn">) {
    this.#library = library;
  }

  /** Compiles it. @returns where it cannot be, the reason */
  static async compile(stack: AsyncDisposableStack): Promise<RingYardstick | string> {
    const path = `${useDirectory(stack)}/ring_yardstick.so`;
    const failure = await compileC("./ring_yardstick.c", path, ["-shared", "-fPIC"]);
    if (failure !== undefined) return failure;
    return new RingYardstick(stack.use(openNumberLibrary(path, { ring_reset: 2, ring_turn: 4 })));
  }

  /** True when it has rings of that kind. */
  has({ inOrder, indirect }: RingVariant): boolean {
    return !inOrder && !indirect;
  }

  /** As `RingPair.turn`. @throws DeviceError when a chain is lost */
  turn({ layout, eventIndex }: RingVariant, count: number, burst: number): void {
    const { ring_turn } = this.#library.functions;
    const code = ring_turn(Number(layout === "packed"), Number(eventIndex), count, burst);
    if (code !== 0) throw new DeviceError(`the ring in C stopped with ${code}`);
  }

  /** Makes a ring new. */
  reset({ layout, eventIndex }: RingVariant): void {
    this.#library.functions.ring_reset(Number(layout === "packed"), Number(eventIndex));
  }
}
