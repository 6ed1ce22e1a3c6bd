return { summary = "x", declare = function() end }
