/** Finds a smallest part of a schedule with which a run still fails: what remains is what matters. */
import type { Schedule } from "./Fault.ts"

/** What was found, and with how many runs. */
export interface Shrunk {
  readonly schedule: Schedule
  readonly runs: number
}

/** Leaves out ever smaller pieces for as long as the rest fails (Zeller's ddmin). At most `maxRuns` runs. */
export const shrink = (schedule: Schedule, fails: (part: Schedule) => boolean, maxRuns = 150): Shrunk => {
  let runs = 0
  const stillFails = (part: Schedule): boolean => runs < maxRuns && (runs++, fails(part))
  if (schedule.length > 0 && stillFails([])) return { schedule: [], runs }
  let rest = schedule
  for (let size = Math.ceil(rest.length / 2); size >= 1 && rest.length > 0;) {
    let isSmaller = false
    for (let from = 0; from < rest.length;) {
      const part = [...rest.slice(0, from), ...rest.slice(from + size)]
      if (part.length < rest.length && stillFails(part)) {
        rest = part
        isSmaller = true
      } else from += size
    }
    if (size === 1 && !isSmaller) break
    size = isSmaller && size > 1
      ? Math.min(size, Math.ceil(rest.length / 2))
      : Math.floor(size / 2) || (isSmaller ? 1 : 0)
  }
  return { schedule: rest, runs }
}
