import { readDirectory, readText } from "../../../ffi/mod.ts";

const SKIP = new Set([".git", ".rig", "node_modules", "coverage"]);

/** Path of a file URL. */
export function fromFileUrl(url: URL): string {
  return decodeURIComponent(url.pathname);
}

/** All TypeScript files below a directory, with paths relative to it. */
export function walk(root: string, below = ""): { path: string; text: string }[] {
  const found: { path: string; text: string }[] = [];
  for (const { name, type } of readDirectory(`${root}${below}` || ".")) {
    if (SKIP.has(name)) continue;
    const path = `${below}${name}`;
    if (type === 4) found.push(...walk(root, `${path}/`));
    else if (name.endsWith(".ts")) found.push({ path, text: readText(`${root}${path}`) });
  }
  return found;
}
