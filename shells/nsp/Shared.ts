/**
 * One answer for all who ask the same of the same: thousands of watchers of a trench ask few different things, and what
 * is one value is made, compared and encoded once.
 */
/** More different questions than watchers have: whoever asks that many makes its own work, but does not fill memory. */
const limit = 4_096

/** The function with its answers for each state, by what is asked (plain data). They go with the state. */
export const make = <State extends object, Question, Answer extends object>(
  answer: (state: State, question: Question) => Answer
): (state: State, question: Question) => Answer => {
  const known = new WeakMap<State, Map<string, Answer>>()
  return (state, question) => {
    const answers = known.get(state) ?? new Map<string, Answer>()
    known.set(state, answers)
    const key = JSON.stringify(question)
    const hit = answers.get(key)
    if (hit !== undefined) return hit
    const made = answer(state, question)
    if (answers.size >= limit) answers.clear()
    answers.set(key, made)
    return made
  }
}
