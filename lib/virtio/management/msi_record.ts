/**
 * What was set of a managed device's interrupts: there are commands to set it, and none to read it.
 *
 * @module
 */

/** One source of interrupts, as it was set. */
export interface MsiSettings {
  /** Where the message goes. */
  readonly address: bigint;
  /** What is written there. */
  readonly data: number;
  /** While false, interrupts are lost. */
  readonly enabled: boolean;
  /** While true, one interrupt is kept. */
  readonly masked: boolean;
}

/** A virtqueue, or the config space. */
export type MsiSource = number | "config";

/** After creation and after a reset: disabled, and not masked. */
const INITIAL: MsiSettings = { address: 0n, data: 0, enabled: false, masked: false };

/** See the module's text. */
export class MsiRecord {
  readonly #sources = new Map<MsiSource, MsiSettings>();

  /** As set last. */
  of(source: MsiSource): MsiSettings {
    return this.#sources.get(source) ?? INITIAL;
  }

  /** A command that set this succeeded. @param change null: it is as it was in the beginning */
  note(source: MsiSource, change: Partial<MsiSettings> | null): void {
    if (change === null) this.#sources.delete(source);
    else this.#sources.set(source, { ...this.of(source), ...change });
  }

  /** The device was reset. */
  forget(): void {
    this.#sources.clear();
  }
}
