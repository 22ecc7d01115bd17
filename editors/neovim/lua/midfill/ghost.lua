--- Keeps what Neovim shows as inline completion equal to what accepting it would write.
---
--- Neovim 0.12 shows an answer without looking whether the text has changed since the question, goes on showing an
--- item that the typing has diverged from, and accepts with the range of the question (neovim#36529).
local api = vim.api
local METHOD = "textDocument/inlineCompletion"

local M = {}

---Text after the cursor that an item replaces. Keyed by the item's command, the only part of an answer whose identity
---survives in the items that Neovim keeps.
---@type table<lsp.Command, string>
local covered = setmetatable({}, { __mode = "k" })

---@class midfill.Cursor
---@field row integer
---@field before string text of the line before the cursor
---@field after string

---@param bufnr integer
---@return midfill.Cursor? # nil when the cursor is in another buffer
local function cursor(bufnr)
  if api.nvim_get_current_buf() ~= bufnr then
    return nil
  end
  local row, col = unpack(api.nvim_win_get_cursor(0))
  local line = api.nvim_get_current_line()
  return { row = row - 1, before = line:sub(1, col), after = line:sub(col + 1) }
end

---Moves an answer from the cursor of the question to the cursor of now.
---@param items lsp.InlineCompletionItem[]
---@param asked midfill.Cursor
---@param now midfill.Cursor
---@param encoding string
---@return lsp.InlineCompletionItem[] # without the items that the typing in between contradicts
local function rebase(items, asked, now, encoding)
  if now.row ~= asked.row or now.after ~= asked.after or not vim.startswith(now.before, asked.before) then
    return {}
  end
  local line = asked.before .. asked.after
  local typed = now.before:sub(#asked.before + 1)
  return vim.tbl_filter(function(item)
    if type(item.insertText) ~= "string" or not item.range then
      return typed == ""
    end
    local from = vim.str_byteindex(line, encoding, item.range.start.character, false)
    local to = vim.str_byteindex(line, encoding, item.range["end"].character, false)
    if item.command then
      covered[item.command] = line:sub(#asked.before + 1, to)
    end
    item.range["end"].character = item.range["end"].character + vim.str_utfindex(typed, encoding)
    return vim.startswith(item.insertText, line:sub(from + 1, #asked.before) .. typed)
  end, items)
end

---Passes only the answer to the newest question on to Neovim, moved to where the cursor is by then.
---@param client vim.lsp.Client
function M.watch(client)
  local request = client.request
  local newest = {} ---@type table<integer, table>
  ---@diagnostic disable-next-line: duplicate-set-field
  client.request = function(self, method, params, handler, bufnr)
    if method ~= METHOD then
      return request(self, method, params, handler, bufnr)
    end
    bufnr = (bufnr == nil or bufnr == 0) and api.nvim_get_current_buf() or bufnr --[[@as integer]]
    local asked = cursor(bufnr)
    local question = {}
    newest[bufnr] = question
    return request(self, method, params, function(err, result, ctx)
      if newest[bufnr] ~= question then
        return
      end
      local now = cursor(bufnr)
      if result and asked and now then
        result = { items = rebase(result.items or result, asked, now, client.offset_encoding) }
      end
      handler(err, result, ctx)
      local shown = result and result.items and result.items[1]
      if shown and vim.startswith(api.nvim_get_mode().mode, "i") then
        self:notify("textDocument/didShowCompletion", { item = shown })
      end
    end, bufnr)
  end
end

---Neovim's own state of the buffer's inline completion. There is no public way to look at it; where a later version
---hides it, the plugin falls back to what Neovim does by itself.
---@param bufnr integer
local function completor(bufnr)
  local ok, capability = pcall(require, "vim.lsp._capability")
  local class = ok and type(capability.all) == "table" and capability.all.inline_completion
  return class and class.active[bufnr] or nil
end

---@param item vim.lsp.inline_completion.Item
---@param bufnr integer
---@return string? typed the part of the item that is in the buffer already; nil if the item does not fit any more
---@return string? replaced text after the cursor that the item replaces
function M.fit(item, bufnr)
  local at = cursor(bufnr)
  local row, col = item.range:to_extmark()
  if not at or at.row ~= row or #at.before < col then
    return nil
  end
  local typed = at.before:sub(col + 1)
  local replaced = item.command and covered[item.command] or ""
  local fits = #item.insert_text > #typed
    and vim.startswith(item.insert_text, typed)
    and vim.startswith(at.after, replaced)
  if fits then
    return typed, replaced
  end
end

---Takes ghost text that the typing has diverged from off the screen, instead of leaving it until the next answer.
---@param bufnr integer
function M.hide_stale(bufnr)
  local state = completor(bufnr)
  local item = state and state.current
  if state and item and item.range and type(item.insert_text) == "string" and not M.fit(item, bufnr) then
    state.current = nil
    local namespace = api.nvim_create_namespace("nvim.lsp.inline_completion")
    api.nvim_buf_clear_namespace(bufnr, namespace, 0, -1)
  end
end

---Asks at each key, and not 200 ms after the last one: the server knows better how long to wait, and what it knows
---already it shows at once.
---@param bufnr integer
function M.hasten(bufnr)
  local state = completor(bufnr)
  if not state or rawget(state, "automatic_request") then
    return
  end
  state.automatic_request = function(self)
    if vim.tbl_count(self.client_state) > 1 then -- the other servers may count on Neovim's pause
      return getmetatable(self).automatic_request(self)
    end
    self:show()
    self:reset_timer()
    self:request(vim.lsp.protocol.InlineCompletionTriggerKind.Automatic)
  end
end

---Asks as if a key had been typed: for who typed before there was anybody to ask.
---@param bufnr integer
function M.ask(bufnr)
  local state = completor(bufnr)
  if state and cursor(bufnr) and vim.startswith(api.nvim_get_mode().mode, "i") then
    state:automatic_request()
  end
end

---Asks at once and for several candidates, as opposed to Neovim's own requests while typing.
---@param bufnr integer
---@return boolean asked
function M.trigger(bufnr)
  local state = completor(bufnr)
  if state then
    state:request(vim.lsp.protocol.InlineCompletionTriggerKind.Invoked)
  end
  return state ~= nil
end

return M
