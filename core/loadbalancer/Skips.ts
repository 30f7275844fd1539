/**
 * Decides where the rules of targets stand among those of the kernel, and by which others it skips most of them.
 *
 * The kernel goes through its rules one by one, for every packet, the answers of targets too, for which none of these is.
 * So they stand in groups by the last two bits of their mark and in classes by the three bits before, and of 100 rules
 * the kernel looks at about ten:
 *
 *     30   the mark is 0 ─────────────────────────────────▶ 99
 *     31   the last two bits are not 00 ────────▶ 48
 *     32     the last five bits are not 00000 ▶ 34
 *     33       targets with these bits
 *     34     the last five bits are not 00100 ▶ 36
 *     ...
 *     48   the last two bits are not 01 ────────▶ 65
 *     ...
 *     99   where it goes on
 *
 * 1. What is skipped cannot match. So packets go the same way with all of these rules, some of them or none, and with
 *    targets of other load balancers among ours.
 * 2. A place depends on the mark alone.
 */
import type * as Ip from "../net/Ip.ts"
import * as Kernel from "../net/Kernel.ts"

/** The priorities: after local traffic (0), before those of the frontend (100, 101). */
export const [first, last] = [30, 99]

const groups = 4
const classes = 8

const groupAt = (group: number): number => first + 1 + group * (1 + 2 * classes)

// After the last class comes the next group.
const classAt = (group: number, one: number): number => groupAt(group) + 1 + 2 * one

/** The priority of the rule for a mark. */
export const priorityOf = (mark: number): number => classAt(mark % groups, Math.floor(mark / groups) % classes) + 1

/** Whether so many targets cost more than the rules that skip them. */
export const areWorth = (targets: number): boolean => targets > 16

/** The rules by which others are skipped. */
export const rules = (family: Ip.Family): ReadonlyArray<Kernel.Rule> => {
  const skip = (priority: number, goto: number, selectors: Partial<Kernel.Rule>): Kernel.Rule => ({
    family,
    priority,
    table: 0,
    ...selectors,
    goto,
    foreign: false
  })
  const unless = (priority: number, mark: number, mask: number, goto: number): Kernel.Rule =>
    skip(priority, goto, { mark, mask, inverted: true })
  return [
    skip(first, last, { mark: 0, mask: Kernel.wholeMark }),
    ...Array.from({ length: groups }, (_, group) => [
      unless(groupAt(group), group, groups - 1, groupAt(group + 1)),
      ...Array.from(
        { length: classes },
        (_, one) => unless(classAt(group, one), one * groups + group, classes * groups - 1, classAt(group, one + 1))
      )
    ]).flat(),
    // The kernel goes on only where there is a rule.
    skip(last, last + 1, {})
  ]
}
