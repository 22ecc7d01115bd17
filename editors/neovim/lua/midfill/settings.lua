-- Written by tools/sync_settings.py from lsp_server/settings.py.

---@class midfill.Settings
---@field endpoint? string Where completions come from: "local" (a service on this machine), or the URL of a Midfill service.
---@field enable? boolean Show completions.
---@field token? string API key of the service. Prefer the environment variable MIDFILL_TOKEN: settings files get shared.
---@field debounceMs? integer Milliseconds without typing before a completion is requested.
---@field requestTimeoutMs? integer Milliseconds after which a request to the service is given up.
---@field mode? "auto"|"line"|"block" Complete the rest of the line, a whole block, or decide by the place of the cursor.
---@field maxLines? integer Longest completion shown, in lines.
---@field maxTokens? integer Most tokens the service may generate for one completion.
---@field minConfidence? integer Hide completions to which the model gives less than this many per cent a token, on average; 0 shows them all, and so does asking by hand.
---@field askAhead? boolean While a completion is displayed, ask for what comes after it, unless the service is busy.
---@field completeComments? boolean Show completions in comments.
---@field completeStrings? boolean Show completions in strings.
---@field feedback? boolean Tell the service what became of completions: ids and numbers of characters, never code.
---@field context? midfill.Settings.context
---@field disabledLanguages? string[] Language identifiers without completions, for example ["markdown", "plaintext"].
---@field disabledGlobs? string[] Files without completions, besides those that usually hold secrets; a pattern starting with "!" allows a file again.

---@class midfill.Settings.context
---@field enable? boolean Send parts of other open files, recent edits and signatures of imported names along.

---@type midfill.Settings
return {
  endpoint = "local",
  enable = true,
  token = "",
  debounceMs = 75,
  requestTimeoutMs = 5000,
  mode = "auto",
  maxLines = 12,
  maxTokens = 128,
  minConfidence = 30,
  askAhead = true,
  completeComments = true,
  completeStrings = true,
  feedback = true,
  context = {
    enable = true,
  },
  disabledLanguages = {},
  disabledGlobs = {},
}
