/** One archive a machine's apt knows, reduced to what the rig needs. */
export interface AptSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
}

/** Reads a one-line-style file (`deb [options] uri suite component …`). */
export function parseOneLine(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split("\n")) {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line);
    if (match === null) continue;
    const [, uri = "", suite = "", components = ""] = match;
    sources.push({ uri, suites: [suite], components: words(components) });
  }
  return sources;
}

/** Reads a deb822-style file (`Types:`, `URIs:`, `Suites:`, `Components:` paragraphs). */
export function parseDeb822(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const paragraph of text.split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    let last = "";
    for (const line of paragraph.split("\n")) {
      if (line.startsWith("#")) continue;
      const field = /^([A-Za-z0-9-]+):\s*(.*)$/.exec(line);
      if (field !== null) {
        last = (field[1] ?? "").toLowerCase();
        fields.set(last, field[2] ?? "");
      } else if (/^\s/.test(line) && last !== "") {
        fields.set(last, `${fields.get(last)} ${line.trim()}`);
      }
    }
    if (!words(fields.get("types")).includes("deb") || /^(no|false|0)$/i.test(fields.get("enabled") ?? "")) {
      continue;
    }
    for (const uri of words(fields.get("uris"))) {
      sources.push({ uri, suites: words(fields.get("suites")), components: words(fields.get("components")) });
    }
  }
  return sources;
}

/**
 * The archives that look like Debian's own for a release, most likely first.
 *
 * Third-party archives use the same suite names, so one that also carries the `-updates` suite wins.
 */
export function debianMirrors(sources: readonly AptSource[], codename: string): string[] {
  const updates = new Set(
    sources.filter((source) => source.suites.includes(`${codename}-updates`)).map((source) => source.uri),
  );
  const candidates = sources
    .filter((source) => source.suites.includes(codename) && source.components.includes("main"))
    .map((source) => source.uri);
  return [...new Set(candidates)].sort((a, b) => Number(updates.has(b)) - Number(updates.has(a)));
}

function words(text: string | undefined): string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}
