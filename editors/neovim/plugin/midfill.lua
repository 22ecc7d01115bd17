if vim.g.loaded_midfill or vim.fn.has("nvim-0.10") == 0 then
  return
end
vim.g.loaded_midfill = true

for _, action in ipairs(vim.fn.has("nvim-0.12") == 1 and require("midfill.keymaps").actions or {}) do
  vim.keymap.set("i", ("<Plug>(midfill-%s)"):format(action:gsub("_", "-")), function()
    require("midfill")[action]()
  end, { desc = "Midfill: " .. action:gsub("_", " ") })
end

vim.api.nvim_create_user_command("Midfill", function(args)
  require("midfill.command").run(args)
end, {
  nargs = 1,
  desc = "Midfill: control the completion server",
  complete = function(typed)
    return require("midfill.command").complete(typed)
  end,
})

vim.api.nvim_create_autocmd("LspAttach", {
  group = vim.api.nvim_create_augroup("midfill", {}),
  callback = function(event)
    local client = vim.lsp.get_client_by_id(event.data.client_id)
    if client and client.name == "midfill" then
      require("midfill.client").attach(client, event.buf)
    end
  end,
})
