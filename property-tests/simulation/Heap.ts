/** The agenda of a simulated world: what happens next, in order of time and then of arrival. */

/** Who wants an entry to happen, for as long as it lives. */
interface Owner {
  readonly isAlive: () => boolean
}

interface Entry {
  readonly at: number
  readonly order: number
  readonly run: () => void
  readonly owner: Owner | undefined
}

/** A binary heap. Equal times keep the order in which they were added, so that equal seeds give equal runs. */
export const make = () => {
  const entries: Array<Entry> = []
  let order = 0

  const isBefore = (a: Entry, b: Entry): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)

  const rise = (entry: Entry): void => {
    let index = entries.length
    while (index > 0) {
      const above = (index - 1) >> 1
      const parent = entries[above]
      if (parent === undefined || !isBefore(entry, parent)) break
      entries[index] = parent
      index = above
    }
    entries[index] = entry
  }

  const sink = (entry: Entry): void => {
    let index = 0
    while (true) {
      const [left, right] = [entries[2 * index + 1], entries[2 * index + 2]]
      const isRight = left !== undefined && right !== undefined && isBefore(right, left)
      const child = isRight ? right : left
      if (child === undefined || !isBefore(child, entry)) break
      entries[index] = child
      index = 2 * index + (isRight ? 2 : 1)
    }
    entries[index] = entry
  }

  return {
    add: (at: number, run: () => void, owner?: Owner): void => rise({ at, order: order++, run, owner }),
    /** The time of the first entry. */
    next: (): number | undefined => entries[0]?.at,
    /** Runs the first entry, unless its owner has died. */
    run: (): void => {
      const first = entries[0]
      const last = entries.pop()
      if (last !== undefined && entries.length > 0) sink(last)
      if (first?.owner === undefined || first.owner.isAlive()) first?.run()
    },
    size: (): number => entries.length
  }
}
