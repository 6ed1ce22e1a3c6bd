---@meta
-- types.lua: what a policy gets, may set and returns, for editors that know LuaCATS. Nothing loads this file.
-- The words that go with it are in README.md.

-- ---- the policy ----

---The table that a policy file returns. Every field has a default.
---@class ckpt.Policy
---@field resume? "auto"|false|ckpt.ResumeItem[]|fun(run: ckpt.Run): "auto"|ckpt.ResumeItem[]|nil
---@field load? ckpt.LoadFields
---@field when? ckpt.WhenFields|fun(run: ckpt.Moment): boolean, string? which calls of ckpt_save write; nil: all
---@field best? ckpt.BestFields|ckpt.BestFields[] one criterion, or several of which the first that differs decides
---@field better? fun(now: table<string, number>, best: table<string, number>): boolean instead of mode, tie, min_delta
---@field bests? ckpt.NamedBest[] further bests
---@field parts? string[] groups that are saved; nil: all
---@field name? string template of the file's name, "model_{infix}{epoch}.pth"
---@field latest? string|false template of the newest file's other name, "model_latest.pth"
---@field best_alias? string|false template of the best file's other name, "model_best.pth"
---@field keep? ckpt.KeepFields|false
---@field async? boolean saves go on in a thread
---@field recycle? boolean new files are written over the blocks of retired ones
---@field reuse? boolean false: save_best writes even what save has just written
---@field candidates? fun(policy: ckpt.Policy, run: ckpt.Run): ckpt.Candidate[]
---@field plan_load? fun(policy: ckpt.Policy, run: ckpt.Run, source: ckpt.Source): ckpt.LoadPlan
---@field due? fun(policy: ckpt.Policy, run: ckpt.Moment): boolean, string?
---@field plan_save? fun(policy: ckpt.Policy, run: ckpt.Run): ckpt.SavePlan
---@field plan_best? fun(policy: ckpt.Policy, run: ckpt.Run): ckpt.SavePlan
---@field kept? fun(policy: ckpt.Policy, run: ckpt.Run): ckpt.Kept[]
---@field ranking? fun(policy: ckpt.Policy, run: ckpt.Run): ckpt.Kept[] the best first
---@field plan_prune? fun(policy: ckpt.Policy, run: ckpt.Run): ckpt.PrunePlan

---"auto", a name in the directory, a path, or a whole candidate.
---@alias ckpt.ResumeItem string|ckpt.Candidate

---A value for both modes, or one for each.
---@class ckpt.WeightsByRole
---@field resume? string|string[]
---@field pretrain? string|string[]

---@class ckpt.MapByRole
---@field resume? ckpt.MapChoice
---@field pretrain? ckpt.MapChoice

---@alias ckpt.MapChoice string|false|ckpt.Map|fun(key: string, shape: integer[]): string?
---@alias ckpt.MismatchAction "skip"|"error"|"overlap"

---@class ckpt.LoadFields
---@field weights? string|string[]|ckpt.WeightsByRole paths in the file, the first that holds tensors is the state dict
---@field strip? string|string[] prefixes that go when every key of the file has them; mode = "each": from each that has
---@field map? ckpt.MapChoice|ckpt.MapByRole "auto", a name in maps/, or a rule set
---@field maps? (string|ckpt.Map)[] what "auto" looks through
---@field vars? table<string, number|string> variables of the rules
---@field rgb2bgr? boolean|string reverse the input channels of the first convolution, or of this key
---@field align? ckpt.AlignFields
---@field on_mismatch? ckpt.MismatchAction|fun(to: string, file: ckpt.Tensor, model: ckpt.Tensor): ckpt.MismatchAction|ckpt.Op[]|nil
---@field reset? string|string[] globs of model keys that a pre-training leaves as initialised
---@field optimizer? boolean a pre-training takes the optimizer's state too
---@field require? ckpt.RequireFields

---@class ckpt.AlignFields
---@field mode? "suffix"|"exact"
---@field boundary? string|false the character before a suffix; false: none, as in Pet
---@field fanout? boolean one tensor of the file may fill many

---The load contract. Globs speak of keys; * stands for any characters.
---@class ckpt.RequireFields
---@field matched? number share of the model keys that must be filled when pre-training
---@field bytes? number the same of the model's bytes
---@field resume? number share of the keys for a resume
---@field must? string[] globs of model keys that must be filled
---@field may_miss? string[] globs of model keys that do not count
---@field max_unexpected? integer how many keys of the file may be of no use
---@field may_ignore? string[] globs of file keys that do not count as such
---@field parts? boolean false: a resumed file may lack what the trainer has bound besides the model
---@field file? boolean true: never from scratch

---@class ckpt.BestFields
---@field metric? string
---@field mode? "max"|"min"
---@field tie? "last"|"first"|ckpt.BestFields who wins where it is even; or another criterion
---@field min_delta? number|string|{ abs?: number, rel?: number } 0.01, "1%"

---A best beside the one that save_best reports.
---@class ckpt.NamedBest: ckpt.BestFields
---@field name string
---@field keep? integer how many of it stay, 1
---@field alias? string|false template of the best file's other name, "model_best_<name>.pth"
---@field better? fun(now: table<string, number>, best: table<string, number>): boolean

---Any of them makes a save due, counted from the last save.
---@class ckpt.WhenFields
---@field epochs? integer
---@field steps? integer
---@field minutes? number
---@field hours? number
---@field signal? boolean false: a request does not
---@field final? boolean false: the end of the run does not
---@field best? boolean false: save_best writes only where a save is due

---Pools: a file stays if any of them wants it.
---@class ckpt.KeepFields
---@field last? integer
---@field best? integer
---@field every? { epochs?: integer, steps?: integer, minutes?: number, hours?: number, days?: number }
---@field hourly? integer
---@field daily? integer
---@field weekly? integer
---@field max_bytes? number|string 20000000000, "20GB" or "20GiB"
---@field pin? string|string[]|fun(point: ckpt.Point): boolean globs of file names
---@field ceiling? number|string no pool but the newest, the bests and pins goes beyond it

---One save of the run, as the ledger has it.
---@class ckpt.Point
---@field file string
---@field epoch integer
---@field step? integer
---@field time? integer
---@field bytes? integer
---@field metrics table<string, number>
---@field stale boolean its file was written anew since

---A file of maps/.
---A rule set, see maps/README.md.
---@class ckpt.Map
---@field id string
---@field version? number
---@field from? string
---@field to? string
---@field about? string
---@field include? string|ckpt.Map|(string|ckpt.Map)[] sets whose stages come before these
---@field detect? ckpt.Detect|fun(sources: ckpt.rules.Source[]): boolean
---@field select? string|string[] paths of the state dict, the first that holds tensors
---@field peel? string|string[] prefixes that go; `mode = "each"` or "all"
---@field vars? table<string, number|boolean|string|ckpt.Var>
---@field lookup? table<string, table<string|integer, string|integer>>
---@field stages? ckpt.Rule[][] in a stage the first rule that matches wins
---@field table? string[][] rows of { key in the file, key from here on }
---@field rename? fun(key: string, shape: integer[]): string?
---@field exact? boolean a key that no rule takes is an error
---@field align? { mode?: "suffix", boundary?: string|false, unique?: boolean, shape?: boolean }
---@field expect? ckpt.Expect
---@field mark? table<string, string> written to the result, refused for a file that has it
---@field first_conv? string the key that rgb2bgr converts, after mapping

---Keys are patterns; a size of 0 in `shapes` is any.
---@class ckpt.Detect
---@field keys? string[] all of these
---@field any? string[] one of these
---@field none? string[] none of these
---@field nkeys? integer
---@field shapes? table<string, integer[]>

---@class ckpt.Var
---@field config? string key of the JSON config
---@field option? string name of an option of the run, or of --var
---@field dim? { [1]: string, [2]: integer } a size of the first source that matches
---@field count? string how many values its first capture has
---@field default? number|string|boolean

---@class ckpt.Expect
---@field n_out? integer
---@field fired? "all"
---@field forbid? string[] patterns that no result may have
---@field missing? string[] patterns of target keys that may stay empty
---@field unused? string[] patterns of sources that may go unused

---@alias ckpt.RuleOp any[] { name, arguments... }, see maps/README.md

---A rule: a pattern at [1], or one of sub, seg, tail, map, any, gather, make.
---@class ckpt.Rule
---@field [1]? string
---@field id? string
---@field about? string
---@field to? string|string[] template, or one for each piece of a split
---@field op? ckpt.RuleOp|ckpt.RuleOp[]
---@field when? boolean|table|fun(captures: table, tensor: ckpt.rules.Source): boolean
---@field drop? boolean
---@field keep? boolean
---@field sub? string[] { text, text }
---@field seg? string[]
---@field tail? string[]
---@field pass? boolean
---@field map? fun(key: string, tensor: ckpt.rules.Source): string|false|nil, ckpt.RuleOp[]?
---@field any? string[]
---@field gather? table<string|integer, string>
---@field order? string[]
---@field over? string
---@field sizes? (integer|string)[]
---@field emit? table
---@field make? string
---@field tie? string
---@field optional? boolean
---@field required? boolean
---@field target? boolean
---@field lossy? boolean
---@field inverse? ckpt.Rule|ckpt.Rule[]

---@class ckpt.PetPolicy: ckpt.Policy
---@field get_weights fun(run: ckpt.Run, test_weights: string?, mode: string?): ckpt.Candidate[]
---@field load_weights fun(policy: ckpt.Policy, run: ckpt.Run, source: ckpt.Source): ckpt.LoadPlan

-- ---- what a policy gets ----

---@class ckpt.Moment
---@field dir string
---@field options table<string, string>
---@field epoch integer
---@field step? integer
---@field time integer seconds since 1970
---@field metrics table<string, number>
---@field last? { epoch: integer, step: integer?, time: integer? } the last save before this epoch and step
---@field signal boolean the trainer asked for this save
---@field final boolean it is the run's last

---@class ckpt.Run: ckpt.Moment
---@field weights? string
---@field auto_resume boolean
---@field rank integer
---@field files ckpt.File[] sorted by name
---@field ledger ckpt.LedgerEntry[] oldest first
---@field parts string[]
---@field values table<string, table>
---@field model ckpt.StateDict
---@field rules? ckpt.Map of the file that the option `map` names

---@class ckpt.File
---@field name string
---@field bytes integer
---@field mtime integer
---@field inode? integer equal for two names of one file

---@class ckpt.LedgerEntry
---@field event "save"|"best"|"pin"|"unpin"|"prune"|"corrupt"|string
---@field time? integer
---@field epoch? integer
---@field step? integer
---@field file? string
---@field bytes integer
---@field best boolean
---@field aliases string[]
---@field retired string[]
---@field metrics table<string, number>

---@class ckpt.Source
---@field mode "resume"|"pretrain"|"scratch"
---@field file? string as the candidate had it
---@field path? string
---@field format? string
---@field keys? string[]
---@field values? table
---@field metadata? table<string, any> what the file says of itself
---@field state_dict? fun(path: string): ckpt.StateDict?

---Names and shapes, in the file's or the model's order: #sd, sd[name], pairs(sd).
---@class ckpt.StateDict
---@field [string] ckpt.Tensor?
---@operator len: integer

---@class ckpt.Tensor
---@field shape integer[]
---@field dtype string

-- ---- what a policy returns ----

---@class ckpt.Candidate
---@field file string
---@field mode "resume"|"pretrain"
---@field must? boolean an error if it is not valid

---{ name, arguments... } as in maps/README.md, 0-based: { "index_select", 1, { 2, 1, 0 } }
---@class ckpt.Op
---@field [1] string

---A key of the file, or an operation with `of`: an expression, or a list of them.
---@alias ckpt.Expression string|ckpt.Op

---@class ckpt.Assignment
---@field to string
---@field from? string
---@field ops? ckpt.Op[] in the order in which they are done
---@field expr? ckpt.Expression in the place of from and ops
---@field overlap? boolean only the common corner is copied
---@field rule? string for the report
---@field note? string for the report

---@class ckpt.Unfilled
---@field to string
---@field status "missing"|"mismatched"|"colliding"|"reset"
---@field from? string
---@field rule? string
---@field note? string

---@class ckpt.LoadPlan
---@field select? string
---@field assign? ckpt.Assignment[]
---@field unfilled? ckpt.Unfilled[]
---@field mismatched? string[]
---@field dropped? { from: string, rule: string? }[]
---@field unfired? string[]
---@field checks? { [1]: string, [2]: string, rule: string? }[]
---@field map? string
---@field optimizer? string
---@field optimizer_options? boolean
---@field values? { group: string, from: string }[]
---@field next_epoch? integer
---@field refuse? string
---@field contract? string what is asked for, in a few words
---@field violations? string[]
---@field suggestions? { text: string, matches: integer }[]
---@field log? string[]

---@class ckpt.SavePlan
---@field file? string
---@field async? boolean
---@field recycle? boolean
---@field reuse? boolean
---@field aliases? string[]
---@field retire? string[]
---@field why? string[] beside each of `retire`
---@field reason? string why it is the best, or is not
---@field parts? string[]
---@field extra? table
---@field set? table<string, table>
---@field ledger? boolean
---@field result? boolean
---@field log? string[]

---@class ckpt.PrunePlan
---@field retire string[]
---@field why? string[]

---@class ckpt.Kept
---@field file string
---@field reasons string[]

-- ---- the library ----

---@class ckpt.PolicyLibrary
---@field none userdata Python's None
ckpt = {}

---For each target the index of the longest source that is a suffix of it, or false. With `boundary`, the suffix must be
---the whole name or follow that character.
---@param targets string[]
---@param sources string[]
---@param boundary string?
---@return (integer|false)[]
function ckpt.align(targets, sources, boundary) end

---Shape and dtype of an expression over tensors; nil and why it has none.
---@param expression ckpt.Expression
---@param tensors ckpt.StateDict|table<string, ckpt.Tensor>
---@return integer[]? shape, string dtype_or_reason
function ckpt.infer(expression, tensors) end
