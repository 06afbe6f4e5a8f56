import {
  accessible,
  makeDirectory,
  processId,
  readDirectory,
  removeDirectory,
  removeFile,
} from "../../../ffi/mod.ts";

/** Directory of this test file; gone with it. */
export const SCRATCH: string = `/tmp/ringside-unit-${processId()}-${crypto.randomUUID().slice(0, 8)}`;

globalThis.addEventListener("unload", () => {
  if (accessible(SCRATCH)) removeAll(SCRATCH);
});

let count = 0;

/** A directory that is removed with everything in it. */
export class TemporaryDirectory implements Disposable {
  readonly path: string = `${SCRATCH}/${count++}`;

  constructor() {
    makeDirectory(this.path);
  }

  [Symbol.dispose](): void {
    removeAll(this.path);
  }
}

function removeAll(path: string): void {
  const DIRECTORY = 4;
  for (const entry of readDirectory(path)) {
    if (entry.type === DIRECTORY) removeAll(`${path}/${entry.name}`);
    else removeFile(`${path}/${entry.name}`);
  }
  removeDirectory(path);
}
