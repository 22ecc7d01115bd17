--- Accepting all or a part of what is shown.
local api = vim.api
local ghost = require("midfill.ghost")

local M = {}

---@param text string
---@return string
local function first_word(text)
  return text:match("^%s*[%w_\128-\255]+") or text:match("^%s*[^%w%s_\128-\255]+") or text
end

---@param text string
---@return string
local function first_line(text)
  return text:match("^\n?[^\n]*")
end

---@param bufnr integer
---@param after integer how many bytes after the cursor are replaced
---@param text string
local function insert(bufnr, after, text)
  -- A change of its own: `u` takes it back, and not what was typed before it.
  vim.bo[bufnr].undolevels = vim.bo[bufnr].undolevels
  local row, col = unpack(api.nvim_win_get_cursor(0))
  local lines = vim.split(text, "\n", { plain = true })
  api.nvim_buf_set_text(bufnr, row - 1, col, row - 1, col + after, lines)
  api.nvim_win_set_cursor(0, { row + #lines - 1, (#lines == 1 and col or 0) + #lines[#lines] })
end

---@param client vim.lsp.Client
---@param item vim.lsp.inline_completion.Item
---@param accepted string the item's text from its beginning to the end of the accepted part
local function report_part(client, item, accepted)
  client:notify("textDocument/didPartiallyAcceptCompletion", {
    item = {
      insertText = item.insert_text,
      range = item.range:to_lsp(client.offset_encoding),
      command = item.command,
    },
    acceptedLength = vim.str_utfindex(accepted, "utf-16"),
  })
end

---@param part fun(rest: string): string
---@param otherwise? fun() runs when nothing was accepted
local function take(part, otherwise)
  otherwise = otherwise or function() end
  local bufnr = api.nvim_get_current_buf()
  local pending = vim.lsp.inline_completion.get({
    on_accept = function(item)
      if type(item.insert_text) ~= "string" or not item.range then
        return item
      end
      local typed, replaced = ghost.fit(item, bufnr)
      if not typed then
        return otherwise()
      end
      local rest = item.insert_text:sub(#typed + 1)
      local text = part(rest)
      local client = assert(vim.lsp.get_client_by_id(item.client_id))
      if #text < #rest then
        insert(bufnr, 0, text)
        -- Without item.command, which tells the server that everything was accepted.
        report_part(client, item, typed .. text)
      else
        insert(bufnr, #replaced, text)
        if item.command then
          client:exec_cmd(item.command, { bufnr = bufnr })
        end
      end
    end,
  })
  if not pending then
    otherwise()
  end
end

---@param otherwise? fun()
function M.accept(otherwise)
  take(function(rest)
    return rest
  end, otherwise)
end

---@param otherwise? fun()
function M.accept_word(otherwise)
  take(first_word, otherwise)
end

---@param otherwise? fun()
function M.accept_line(otherwise)
  take(first_line, otherwise)
end

return M
