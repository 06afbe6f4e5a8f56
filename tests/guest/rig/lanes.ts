/** Does one thing: says what it has to say when it is over. */
export type Job<T> = (lane: number) => Promise<T>;

/** Does jobs in their order, as many at once as there are lanes; each is told its lane, from 0. @returns what they return, in their order */
export async function inLanes<T>(lanes: number, jobs: readonly Job<T>[]): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  const work = async (lane: number): Promise<void> => {
    for (let at; (at = next++) < jobs.length;) results[at] = await jobs[at]!(lane);
  };
  await Promise.all(Array.from({ length: Math.min(lanes, jobs.length) }, (_, lane) => work(lane)));
  return results;
}
